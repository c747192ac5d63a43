"""Sentences in other languages for the mini-web, so that language identification has work to do."""

import random

from llama3lib.utils.require import one_of

_NAMES = "Anna Bruno Carla David Elena Felix Greta Hugo Irene Jonas Klara Lukas Marta Nils".split()

# each sentence has slots for a name {n}, a number {a}, another {b}, and two of its words {w} {v}
_SENTENCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "de": (
        (
            "{n} wohnt seit {a} Jahren am Fluss und sammelt {w}.",
            "Im Herbst des Jahres {b} lag auf dem Markt vor allem {w} neben {v}.",
            "Die Kinder erzählten {n}, dass hinter der Brücke {a} Boote mit {w} warten.",
            "Niemand weiß genau, warum {n} das Haus mit {v} und {w} gefüllt hat.",
            "Am Morgen um {a} Uhr öffnet die Bäckerei, und {n} kauft dort {w}.",
            "Der Weg nach Norden führt über {b} Stufen zu einem Garten voller {v}.",
        ),
        (
            "Äpfel",
            "Bücher",
            "Glocken",
            "Holz",
            "Wolle",
            "Briefe",
            "Karten",
            "Brot",
            "Steine",
            "Lampen",
        ),
    ),
    "fr": (
        (
            "{n} habite près de la rivière depuis {a} ans et collectionne des {w}.",
            "En automne {b}, on vendait surtout des {w} à côté des {v} sur la place.",
            "Les enfants ont dit à {n} que {a} bateaux chargés de {w} attendent derrière le pont.",
            "Personne ne sait pourquoi {n} a rempli la maison de {v} et de {w}.",
            "Le matin à {a} heures la boulangerie ouvre, et {n} y achète des {w}.",
            "Le chemin du nord monte par {b} marches vers un jardin plein de {v}.",
        ),
        ("pommes", "livres", "cloches", "lettres", "cartes", "pierres", "lampes", "noix", "plumes"),
    ),
    "es": (
        (
            "{n} vive junto al río desde hace {a} años y colecciona {w}.",
            "En el otoño de {b} se vendían en la plaza sobre todo {w} junto a {v}.",
            "Los niños contaron a {n} que detrás del puente esperan {a} barcos con {w}.",
            "Nadie sabe por qué {n} ha llenado la casa de {v} y de {w}.",
            "Por la mañana, a las {a}, abre la panadería y {n} compra allí {w}.",
            "El camino del norte sube por {b} escalones hasta un jardín lleno de {v}.",
        ),
        (
            "manzanas",
            "libros",
            "campanas",
            "cartas",
            "mapas",
            "piedras",
            "nueces",
            "plumas",
            "velas",
        ),
    ),
    "it": (
        (
            "{n} abita vicino al fiume da {a} anni e raccoglie {w}.",
            "Nell'autunno del {b} sulla piazza si vendevano soprattutto {w} accanto a {v}.",
            "I bambini hanno raccontato a {n} che dietro il ponte aspettano {a} barche con {w}.",
            "Nessuno sa perché {n} abbia riempito la casa di {v} e di {w}.",
            "La mattina alle {a} apre il panificio, e {n} vi compra {w}.",
            "La strada del nord sale per {b} gradini fino a un giardino pieno di {v}.",
        ),
        ("mele", "libri", "campane", "lettere", "carte", "pietre", "noci", "piume", "candele"),
    ),
    "pt": (
        (
            "{n} mora perto do rio há {a} anos e coleciona {w}.",
            "No outono de {b} vendiam-se na praça sobretudo {w} ao lado de {v}.",
            "As crianças disseram a {n} que atrás da ponte esperam {a} barcos com {w}.",
            "Ninguém sabe por que {n} encheu a casa de {v} e de {w}.",
            "De manhã, às {a} horas, a padaria abre e {n} compra lá {w}.",
            "O caminho do norte sobe por {b} degraus até um jardim cheio de {v}.",
        ),
        ("maçãs", "livros", "sinos", "cartas", "mapas", "pedras", "nozes", "penas", "velas"),
    ),
    "nl": (
        (
            "{n} woont al {a} jaar aan de rivier en verzamelt {w}.",
            "In de herfst van {b} lagen op de markt vooral {w} naast {v}.",
            "De kinderen vertelden {n} dat achter de brug {a} boten met {w} wachten.",
            "Niemand weet waarom {n} het huis met {v} en {w} heeft gevuld.",
            "Om {a} uur in de ochtend gaat de bakkerij open en koopt {n} daar {w}.",
            "De weg naar het noorden loopt over {b} treden naar een tuin vol {v}.",
        ),
        (
            "appels",
            "boeken",
            "klokken",
            "brieven",
            "kaarten",
            "stenen",
            "noten",
            "veren",
            "kaarsen",
        ),
    ),
    "hi": (
        (
            "{n} {a} साल से नदी के पास रहती है और {w} इकट्ठा करती है।",
            "{b} की शरद ऋतु में बाज़ार में {v} के साथ {w} भी बिकते थे।",
            "बच्चों ने {n} को बताया कि पुल के पीछे {a} नावें {w} लेकर खड़ी हैं।",
            "कोई नहीं जानता कि {n} ने घर को {v} और {w} से क्यों भर दिया।",
            "सुबह {a} बजे दुकान खुलती है और {n} वहाँ से {w} खरीदती है।",
            "उत्तर का रास्ता {b} सीढ़ियों से होकर {v} के बगीचे तक जाता है।",
        ),
        ("सेब", "किताबें", "घंटियाँ", "पत्र", "नक्शे", "पत्थर", "दीपक", "पंख", "मोमबत्तियाँ"),
    ),
    "th": (
        (
            "{n} อาศัยอยู่ริมแม่น้ำมา {a} ปีแล้ว และชอบสะสม {w} ไว้ในบ้าน",
            "ในฤดูใบไม้ร่วงปี {b} ที่ตลาดมีคนขาย {w} และ {v} มากที่สุด",
            "เด็กๆ เล่าให้ {n} ฟังว่ามีเรือ {a} ลำบรรทุก {w} รออยู่หลังสะพาน",
            "ไม่มีใครรู้ว่าทำไม {n} จึงเก็บ {v} และ {w} ไว้เต็มบ้าน",
            "ตอนเช้าเวลา {a} โมง ร้านเปิดแล้ว {n} จะไปซื้อ {w} ที่นั่น",
            "ทางไปทิศเหนือมีบันได {b} ขั้น ขึ้นไปถึงสวนที่เต็มไปด้วย {v}",
        ),
        ("แอปเปิล", "หนังสือ", "ระฆัง", "จดหมาย", "แผนที่", "ก้อนหิน", "โคมไฟ", "ขนนก", "เทียน"),
    ),
}

LANGUAGES = tuple(_SENTENCES)


def foreign(rng: random.Random, language: str) -> list[str]:
    """Two paragraphs of small sentences in one of `LANGUAGES`.

    Raises ValueError for another language.
    """
    one_of("language", language, list(LANGUAGES))
    patterns, words = _SENTENCES[language]
    sentences = []
    for pattern in rng.sample(patterns, len(patterns)):
        word, other = rng.sample(words, 2)
        first, second = rng.randint(2, 59), rng.randint(1810, 1999)
        sentences.append(pattern.format(n=rng.choice(_NAMES), a=first, b=second, w=word, v=other))
    return [" ".join(sentences[:3]), " ".join(sentences[3:])]
