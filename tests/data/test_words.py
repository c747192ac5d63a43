"""Words in many scripts, and that every step of the web recipe keeps good pages in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama3lib.data.dedup.minhash import DropNearDuplicates, exact_jaccard
from llama3lib.data.document import Document, Dropped
from llama3lib.data.filters import DropRepetition, GopherRules
from llama3lib.data.funnel import Funnel, run
from llama3lib.data.recipe import web_recipe
from llama3lib.data.words import count_letters, count_words, signs_per_word, split_words

WORDS = [
    ("", []),
    (" one  two,\nthree ", ["one", "two,", "three"]),
    ("naïve “quotes” — 8½", ["naïve", "“quotes”", "—", "8½"]),
    ("河水很清，鱼多。", ["河", "水", "很", "清，", "鱼", "多。"]),
    ("用Python3写的", ["用", "Python3", "写", "的"]),
    ("コーヒーを。", ["コー", "ヒー", "を。"]),
    ("แม่น้ำไทย", ["แม่", "น้ำ", "ไท", "ย"]),
    ("ແມ່ນ້ຳ", ["ແມ່", "ນ້ຳ"]),
    ("ស្ទឹងធំ។", ["ស្ទឹ", "ង", "ធំ។"]),
    ("မြစ်ကြီး", ["မြစ်", "ကြီး"]),
    ("བོད་ཡིག།", ["བོད་", "ཡིག།"]),
    ("नदी गहरी है।", ["नदी", "गहरी", "है।"]),
    ("النهر عميق؟", ["النهر", "عميق؟"]),
    ("강은 깊다.", ["강은", "깊다."]),
]


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_words(text, words):
    assert split_words(text) == words


SIGNS = st.text("ab1 \n.,鱼水のーน้ำไែ្ခ်་ཡិनदीم\u3099\u200d𠀀🦙", max_size=30)


@given(SIGNS | st.text(max_size=30))
def test_nothing_is_lost_but_spaces(text):
    assert "".join(split_words(text)) == "".join(text.split())
    assert all(split_words(text))


def test_how_many_and_how_long():
    assert count_words("河水很清，鱼多。") == 3 and signs_per_word("河水", ["河", "水"]) == 1
    assert count_words("the river is deep") == 4 and count_words("") == 0
    assert [count_letters(word) for word in ("river", "ri\u0301o", "강은", "नदी")] == [5, 3, 6, 3]


# some lines of ordinary prose for each, written for this test
PROSE = {
    "zh": "老磨坊在河的上游，院子里种着两棵梨树。每到秋天，村里的人把新收的麦子背来，排队等着磨"
    "面。磨坊主话不多，却记得每一家的口味粗细。孩子们喜欢坐在水渠边，看木轮慢慢转动，把水"
    "花甩到石头上。冬天水结了冰，轮子停下来，他就修补麻袋，给邻居讲年轻时走过的码头和集市"
    "。",
    "ja": "駅前の小さな本屋は、朝早くから明かりがついている。店主は届いた雑誌を棚に並べ、ほこり"
    "を払い、窓を開ける。学生たちは学校へ行く途中で立ち読みをして、たまに文庫本を一冊買っ"
    "ていく。雨の日には客が少ないので、彼は奥の机で古い地図を広げ、行ったことのない町の名"
    "前を声に出して読む。",
    "th": "บ้านไม้หลังเก่าตั้งอยู่ริมคลอง ตอนเช้าพ่อค้าพายเรือผ่านมาขายผักและขนม แม่ของเธอตื่นก"
    "่อนใครเพื่อหุงข้าว ส่วนพ่อเดินไปดูสวนมะพร้าวหลังบ้าน เมื่อฝนตกหนักน้ำจะขึ้นถึงบันไดข"
    "ั้นที่สอง เด็กๆ จึงชอบนั่งตกปลาจากระเบียง และฟังเสียงกบร้องจนมืดค่ำ",
    "ko": "언덕 위의 작은 학교에는 학생이 열두 명뿐이다. 선생님은 아침마다 난로에 불을 피우고 "
    "칠판을 닦는다. 겨울이면 아이들은 장갑을 말리며 서로의 도시락을 구경하고, 눈이 그치면"
    " 운동장으로 달려 나간다. 봄에는 담장을 따라 꽃을 심고, 누가 가장 먼저 싹을 보았는지 "
    "오래 다툰다. 졸업식 날에는 마을 사람들이 모두 모여 노래를 부르고 떡을 나눈다.",
    "hi": "गाँव के बाहर एक पुराना कुआँ है जहाँ शाम को लोग पानी भरने आते हैं। औरतें घड़े रखकर दिन"
    " भर की बातें करती हैं और बच्चे नीम के पेड़ पर चढ़ते हैं। बरसात में रास्ता कीचड़ से भर"
    " जाता है, तब बैलगाड़ी भी नहीं चल पाती। दादी कहती हैं कि यह कुआँ उनके दादा ने खुदवाया"
    " था और सूखे के साल में भी इसका पानी कभी कम नहीं हुआ।",
    "ar": "في آخر الشارع دكان صغير يبيع الخبز والزيتون منذ خمسين سنة. يفتح صاحبه الباب قبل شروق"
    " الشمس ويرتب السلال على الرصيف. يأتي الأطفال بعد المدرسة ليشتروا الحلوى، ويجلس الشيوخ"
    " أمامه يشربون الشاي ويسألون عن أخبار المدينة. هل سيبقى الدكان بعد أن يكبر صاحبه؟ لا "
    "أحد يعرف، لكن ابنته تعلمت كيف تعجن وتخبز.",
}


def test_the_web_recipe_keeps_prose_in_every_script():
    funnel = Funnel(keep_dropped=True)
    documents = [
        Document(
            text, language, {"url": f"http://{language}.example/", "content_type": "text/plain"}
        )
        for language, text in PROSE.items()
    ]
    kept = list(run(documents, web_recipe().steps, funnel))
    assert [(one.document.id, one.step, one.reason) for one in funnel.dropped] == []
    assert [(one.id, one.metadata["language"]) for one in kept] == [(name, name) for name in PROSE]


@pytest.mark.parametrize("language", PROSE)
def test_copies_and_repetition_in_every_script(language):
    text = PROSE[language]
    words = split_words(text)
    near = text.replace(words[-1], "X", 1)
    fell = list(DropNearDuplicates(bands=20)([Document(text * 2, "a"), Document(text + near, "b")]))
    assert isinstance(fell[1], Dropped) and exact_jaccard(text * 2, text + near) > 0.8
    others = [other for name, other in PROSE.items() if name != language]
    assert all(exact_jaccard(text, other) < 0.02 for other in others)
    assert DropRepetition().apply(Document(text * 3, "a")).reason == "duplicate n-grams"
    start = text[: len(text) // 4]
    assert GopherRules(least_words=50).apply(Document(start, "a")).reason == "too short"
