"""Thai text, and the network of deepcut 0.7.0.0 that finds its words.

Thai is written without spaces between words. The sentences here are made by a grammar,
so that it is known where their words begin.
"""

import numpy as np
import wheels

REQUIREMENT = "deepcut==0.7.0.0"
HASHES = {
    "deepcut/model.py": "ce9f2c7b3d0faccb287d8c2fbd80234915803633b8a76d69"
    "ea7d5898a38e8cca",
    "deepcut/utils.py": "37c08c13b5ddfeafd3af0f1d7bd6d4949bed4f1a0f479680"
    "4809429dc91dfb05",
    "deepcut/weight/cnn_without_ne_ab.h5": "5c9a5fa34677217baf83e2b578fdff1fb5fd027c30d"
    "4aa7daa8bd7320cf77357",
}

_TEXT = """
people: ฉัน ผม เขา เธอ เรา พวกเขา แม่ พ่อ พี่สาว น้องชาย ครู หมอ ตำรวจ นักเรียน
people: เพื่อน ลูกค้า ชาวนา คนขับรถ ผู้จัดการ ช่างไม้ ป้า ลุง ยาย ตา เด็ก
people: นักร้อง ทหาร แม่ครัว
acts: ซื้อ ขาย ชอบ เห็น ถือ ล้าง หา ขอ เก็บ ลืม ใช้ ดู วาง ยก เลือก ทำ ส่ง รับ
acts: ทิ้ง จำ ต้องการ เปลี่ยน ซ่อม แบ่ง เตรียม
things: หนังสือ ข้าว ปลา ไก่ ผลไม้ มะม่วง กาแฟ น้ำ รถยนต์ จักรยาน โทรศัพท์
things: กระเป๋า เสื้อ รองเท้า โต๊ะ เก้าอี้ ดอกไม้ จดหมาย รูป ยา ขนม ผัก เงิน
things: นาฬิกา กุญแจ หมวก ร่ม แว่นตา ไข่ กล้วย ส้ม นม
kinds: ใหม่ เก่า ใหญ่ เล็ก สวย แพง ถูก ดี หนัก เบา สีแดง สีขาว สะอาด อร่อย ร้อน
kinds: เย็น
places: บ้าน ตลาด โรงเรียน โรงพยาบาล วัด ร้านอาหาร ธนาคาร สถานี ห้องสมุด สวน
places: ทะเล ภูเขา เมือง หมู่บ้าน สนามบิน โรงแรม ถนน แม่น้ำ ที่ทำงาน กรุงเทพ
places: เชียงใหม่
times: วันนี้ เมื่อวาน พรุ่งนี้ ตอนเช้า ตอนเย็น กลางคืน ทุกวัน ปีที่แล้ว
times: สัปดาห์หน้า เมื่อก่อน ตอนนี้
helpers: จะ กำลัง เคย อยาก ต้อง ได้ ยัง ไม่ อาจ มัก
ends: แล้ว มาก เสมอ ด้วย ทันที อีก เท่านั้น จริงๆ บ่อยๆ
links: และ แต่ เพราะ ถ้า จึง หรือ เมื่อ แล้ว
moves: ไป มา กลับ เดิน วิ่ง เดินทาง
feelings: ดีใจ เสียใจ เหนื่อย หิว โกรธ กลัว สบาย ยุ่ง ป่วย สนุก
feel: รู้สึก
of: ของ
where: ที่ จาก ใน
counts: คน ตัว เล่ม คัน ใบ ลูก ขวด ชิ้น บาท
"""
WORDS: dict[str, list[str]] = {}
for _line in _TEXT.split("\n")[1:-1]:
    _kind, _words = _line.split(": ")
    WORDS.setdefault(_kind, []).extend(_words.split())


def clause(rng):
    """The words of one clause."""

    def one(*kinds):
        return [str(rng.choice(WORDS[kind])) for kind in kinds]

    def maybe(share, *kinds):
        return one(*kinds) if rng.random() < share else []

    words = [*maybe(0.3, "times"), *one("people"), *maybe(0.5, "helpers")]
    kind = rng.integers(4)
    if kind == 0:
        words += [*one("moves"), "ที่", *one("places")]
    elif kind == 1:
        words += [*maybe(0.4, "feel"), *one("feelings")]
    else:
        words += one("acts", "things")
        if rng.random() < 0.3:
            words += [str(rng.integers(2, 300)), *one("counts")]
        else:
            words += maybe(0.5, "kinds")
        words += maybe(0.2, "of", "people")
        words += one("where", "places") if kind == 2 else []
    return words + maybe(0.3, "ends")


def sentences(count, rng):
    """Lists of words, a space among them here and there."""
    for _ in range(count):
        words = clause(rng)
        if rng.random() < 0.4:
            words += [" "] * (rng.random() < 0.3)
            words += [str(rng.choice(WORDS["links"])), *clause(rng)]
        yield words


def fetch(folder):
    """Puts the network into a folder."""
    wheels.fetch(REQUIREMENT, HASHES, folder)


def network(folder):
    """The network as the package makes and compiles it.

    It tells of one character in the middle of 21 whether a word begins there.
    """
    model = wheels.module_at(folder / "deepcut/model.py").get_convo_nn2()
    model.load_weights(folder / "deepcut/weight/cnn_without_ne_ab.h5")
    return model


def windows(folder, texts):
    """Characters and their types around each character, `(characters, 21)` each."""
    read = wheels.module_at(folder / "deepcut/utils.py").create_feature_array
    pairs = [read(text) for text in texts]
    return [
        np.concatenate(parts).astype("float32") for parts in zip(*pairs, strict=True)
    ]


def beginnings(words):
    """Whether a word begins at a character, one truth for each."""
    return np.concatenate([np.arange(len(word)) == 0 for word in words])
