"""The parts of `compare_methods.py`.

tasks.py      what is trained: network, data, epochs; and what makes one run
methods.py    how each method makes it sparse, one function each
training.py   one run, from initial weights to its figures
study.py      the runs of a study, and making those that are missing
store.py      the results, and what runs share
tables.py     results over seeds as Markdown
frontier.py   results as pictures
costs.py      time and memory of a training step
"""
