"""The parts of `compare_methods.py`.

tasks.py      what is trained: network, data, epochs; and what makes one run
recipes.py    how each method makes it sparse, one function each
scl.py        the same for SCL, and for other ways of it
methods.py    the methods by name
plan.py       the tasks, and what of them the study is made of
augmentation.py  images mirrored and shifted at random
training.py   one run, from initial or trained weights to its figures
study.py      runs that are missing, made one after the other
store.py      the results, and what runs share
cells.py      results by task, method and compression
tables.py     results over seeds as Markdown
claims.py     cells where SCL with its defaults is the worse choice, if any
commands.py   the command that makes a table
frontier.py   results as pictures
costs.py      time and memory of a training step
"""
