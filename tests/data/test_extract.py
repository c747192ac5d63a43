"""HTML to text: what is kept, what goes, and pages that were written to break a parser."""

import pytest
from timing_tools import assert_linear, deadline

from llama3lib.data.document import Document, Drop
from llama3lib.data.extract import (
    MOST_NESTED,
    Extract,
    StripMarkdown,
    extract_text,
    strip_markdown,
)
from llama3lib.data.extract.markdown import _BOTH_SIDES

# fmt: off
PAGES = [
    ("<p>one</p><p>two <b>bold</b> three</p>", "one\ntwo bold three"),
    ("<p>a\n  b&nbsp;&amp;\t c", "a b & c"),
    ("<p>one<br>two<br/> three", "one\ntwo\nthree"),
    ("<div>one<div>two</div>three</div>", "one\ntwo\nthree"),
    ("<script>var x = '<p>no</p>'</script><style>p {}</style><p>yes", "yes"),
    ("<p>a <img src=x alt='a  red\n fox'> b", "a a red fox b"),
    ("<p>a <img src=x> b <img alt=''>", "a b"),
    ("<p>so <img class='tex' alt='x^2'> is", "so $x^2$ is"),
    ("<p>so <img class='mwe-math-fallback-image-inline' alt='x^2'>.", "so $x^2$."),
    (
        "<p>so <math><semantics><mi>x</mi><annotation encoding='application/x-tex'>x\t&amp;\n"
        "y</annotation></semantics></math> is",
        "so $x & y$ is",
    ),
    ("<p><math alttext='\\pi'><mi>p</mi></math>!", "$\\pi$!"),
    ("<p><math><mi>x</mi><mo>+</mo><mn>1</mn></math>", "x+1"),
    ("<p>a <script type='math/tex'>x_1</script> b", "a $x_1$ b"),
    ("<p><script type='math/tex; mode=display'> x </script>", "$$x$$"),
    ("<p>10<sup>5</sup> H<sub>2</sub>O x<sup>12</sup>", "10^5 H_2O x^{12}"),
    ("<p>see<sup><a href=#1>[1]</a></sup> it", "see[1] it"),
    (
        "<p>run:<pre>def f():\n    return  1\n\n\n    # é &lt;\n</pre>",
        "run:\ndef f():\n    return  1\n\n\n    # é <",
    ),
    ("<pre><code><span>if</span> x:\n\ty</code></pre><p>after  all", "if x:\n\ty\nafter all"),
    ("<pre>a<br>b\r\nc</pre>", "a\nb\nc"),
    ("<p>the <code>x  =  1</code> line", "the x = 1 line"),
    ("<table><tr><th>a<th>b<tr><td>1<td>2 <b>3</b></table>", "a\tb\n1\t2 3"),
    ("<ul><li>one<li>two</ul><ol><li>three</ol>", "one\ntwo\nthree"),
    ("<ul><li><a href=a>Home</a><li><a href=b>News and views</a></ul><p>text", "text"),
    ("<ul><li><a href=a>Home</a><li><a href=b>News and views</a></ul>", "Home\nNews and views"),
    ("<h2><a href=a>A heading that is a link</a></h2>", "A heading that is a link"),
    (
        "<p>Read <a href=a>this</a> before you go on with the rest.",
        "Read this before you go on with the rest.",
    ),
    ("<nav>x</nav><aside>x</aside><footer>x</footer><form>x</form><p>y", "y"),
    ("<div class='site-footer'>x</div><div id=navbar>x</div><p>y", "y"),
    ("<div class='cookie-consent'>x</div><div class=adsorption>kept</div>", "kept"),
    ("<div role=Navigation>x</div><div role=main>y</div>", "y"),
    ("<p hidden>x<p aria-hidden=true>x<p style='color: red; DISPLAY : none'>x<p>y", "y"),
    ("<header><p>x</header><p>y", "y"),
    ("<header><h1>Title</h1><p>x</header><p>y", "Title\nx\ny"),
    ("<header><div>x</div></header><article><header>by me</header><p>y</article>", "by me\ny"),
    ("<p>tail of <script>x</script>kept <nav>x</nav>words", "tail of kept words"),
    ("<!-- <p>x --><p>y<!-- z -->", "y"),
    ("<p>a\x00b", "ab"),
    ("<p>half \ud800 a pair", "half ? a pair"),
    ("text without a tag", "text without a tag"),
    ("", ""),
    ("   \n ", ""),
    ("<!-- only this -->", ""),
    ("<", "<"),
    ("<html><head><title>x</title></head><body></body></html>", ""),
    # tables: rows, columns and empty cells
    ("<table><tr><th>a<th>b<th>c<tr><td>1<td><td>3</table>", "a\tb\tc\n1\t\t3"),
    ("<table><tr><td colspan=2>both<td>c<tr><td>1<td>2<td>3</table>", "both\t\tc\n1\t2\t3"),
    (
        "<table><tr><td rowspan=2>tall<td>a<td rowspan=3>end<tr><td>b<tr><td>1<td>2</table>",
        "tall\ta\tend\n\tb\t\n1\t2\t",
    ),
    ("<table><tr><td rowspan=2 colspan=2>big<td>a<tr><td>b</table>", "big\t\ta\n\t\tb"),
    ("<table><thead><tr><td rowspan=9>x<td>y<tbody><tr><td>1<td>2</table>", "x\ty\n1\t2"),
    ("<table><tr><td rowspan=x colspan=0>a<td>b<tr><td>c<td>d</table>", "a\tb\nc\td"),
    (
        "<table><tr><th>who<th>born<tr><td><a href=a>Ada Lovelace</a><td>1815</table>",
        "who\tborn\nAda Lovelace\t1815",
    ),
    ("<table><tr><td><p>one</p><td><div>two</div></table>", "one\ttwo"),
    ("<table><tr><td><p>one<p>two<td>side</table>", "one\ntwo\nside"),
    ("<table><tr><td>side<td><h1>Title</h1><p>one</table>", "side\nTitle\none"),
    ("<table><tr><td><table><tr><td>a<td>b</table></table>", "a\tb"),
    ("<table><tr><td class=linenos><pre>1\n2</pre><td><pre>a\n b</pre></table>", "a\n b"),
    # code to the byte
    ("<pre>\n  a  \n\tb\t \n</pre>", "  a  \n\tb\t "),
    ("<pre><div>x = 1</div><div>  y</div></pre>", "x = 1\n  y"),
    ("<pre><span>a</span>\n<span>b</span></pre>", "a\nb"),
    ("<h2>Title<a class=headerlink href='#t'>¶</a></h2>", "Title"),
    # MathML without TeX
    ("<p><math><mfrac><mn>1</mn><mn>2</mn></mfrac></math>", "1/2"),
    ("<p><math><mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><mi>b</mi></mfrac></math>",
     "(a+1)/b"),
    ("<p><math><msup><mi>e</mi><mn>10</mn></msup><msub><mi>x</mi><mi>i</mi></msub></math>",
     "e^{10}x_i"),
    ("<p><math><msubsup><mi>x</mi><mn>1</mn><mn>2</mn></msubsup></math>", "x_1^2"),
    ("<p><math><msqrt><mi>x</mi></msqrt><mroot><mi>x</mi><mn>3</mn></mroot></math>",
     "√(x)√[3](x)"),
    ("<p><math><mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>0</mn></mtd></mtr><mtr><mtd><mn>0</mn>"
     "</mtd><mtd><mn>1</mn></mtd></mtr></mtable></math>", "[1, 0; 0, 1]"),
    # a picture alone is no text, unless it is a formula
    ("<p>a</p><div><img src=x alt='A red fox'></div>", "a"),
    ("<p>a</p><div><img src=x alt='\\frac{1}{2}'></div>", "a\n\\frac{1}{2}"),
]


# fmt: on
@pytest.mark.parametrize(("page", "text"), PAGES)
def test_what_a_page_gives(page, text):
    assert extract_text(page) == text
    assert extract_text(page) == text  # no state between pages


LONG = "Here stand words enough for a paragraph, which no menu has, nor any of its entries. " * 2


def a_listing(about: str = "") -> str:
    """A page with three dozen links to others, a menu and a notice on cookies."""
    news = "".join(f"<li><a href=/{n}>The news number {n} of today</a> by me" for n in range(36))
    return (
        f"<head>{about}<title>News</title></head><nav><a href=/>Home</a></nav>"
        f"<main><h1>All news</h1><ul>{news}</ul></main><div><p>We set cookies. {LONG}</div>"
    )


@pytest.mark.parametrize("about", ["", "<meta property=og:type content=article>"])
def test_of_a_page_that_lists_others_the_links_are_the_text(about):
    lines = extract_text(a_listing(about)).splitlines()
    assert lines[:2] == ["All news", "The news number 0 of today by me"]
    assert [line for line in lines if "number" in line] == [
        f"The news number {n} of today by me" for n in range(36)
    ]
    assert "Home" not in lines


def test_an_article_among_many_links_stays_one():
    links = "".join(f"<li><a href=/{n}>More on the matter number {n}</a>" for n in range(60))
    page = f"<div><p>First: {LONG}<p>Then: {LONG}</div><div><ul>{links}</ul></div>"
    about = "<meta property=og:type content='Article '>"
    assert extract_text(about + page) == f"First: {LONG.strip()}\nThen: {LONG.strip()}"
    assert "number 59" in extract_text(page)


@pytest.mark.parametrize(
    "begin",
    [
        "<button><span>Menu</span>",  # never closed
        "<div id=w-node-b53ad4-c9>",
        "<div class='row gutter--medium'>",
        "<div class='popup-theme'><section class=text>",
        "<form>",
    ],
)
def test_what_looks_like_a_frame_but_holds_the_page_is_read(begin):
    close = "</div>" * begin.count("<div")
    rows = "".join(f"{begin}<p>{n}: {LONG}{LONG}</p>{close}" for n in range(4))
    text = extract_text(f"<body><div>{rows}</div>")
    assert [line[0] for line in text.splitlines() if LONG.strip() in line] == list("0123")


def test_the_main_part_is_found_beside_a_large_program():
    words = "words of the main part " * 9
    page = f"<div>loose words</div><main><p>{words}</main><script>{'x = 1;' * 5000}</script>"
    assert extract_text(page) == words.strip()
    style = f"<body><p>loose words<style>{'p {}' * 5000}</style><article><p>{words}</article>"
    assert extract_text(style) == words.strip()
    two = "<article><p>one</article><article><p>two</article><p>three"
    assert extract_text(two) == "one\ntwo\nthree"
    assert extract_text(f"<main>small</main><p>{words * 9}").startswith("small\nwords")


def test_deep_pages_are_refused_and_others_are_not():
    fine = "<div>" * MOST_NESTED + "deep" + "</div>" * MOST_NESTED
    assert extract_text(fine) == "deep"
    with pytest.raises(ValueError, match=f"deeper than {MOST_NESTED}"):
        extract_text("<div>" * (MOST_NESTED + 1))


HOSTILE = {
    "nested": "<div>" * 100_000,
    "nested and closed": "<b><i>" * 50_000 + "</i></b>" * 50_000,
    "lists": "<ul><li>" * 50_000,
    "table": "<table><tr><td>" * 50_000,
    "long attribute": f"<p class='{'word ' * 400_000}'>x",
    "many attributes": "<p " + " ".join(f"a{n}=1" for n in range(100_000)) + ">x",
    "entities": "<p>" + "&amp;" * 300_000,
    "unknown entities": "<p>" + "&" * 1_000_000,
    "open tags": "<" * 1_000_000,
    "open comment": "<!--" * 250_000,
    "open script": "<script" * 150_000,
    "hidden deep": "<scripture>" + "<x/ >" * 100_000,
    "formulas": "<math>" * 190 + "<annotation encoding=tex>" * 5 + "x",
}


def test_hostile_pages_end_in_time_with_text_or_a_reason():
    step = Extract(seconds=5)
    outcomes = {}
    for name, page in HOSTILE.items():
        with deadline(30, name):
            answer = step.apply(Document(page, name))
        outcomes[name] = answer.reason if isinstance(answer, Drop) else "text"
    step.sandbox.close()
    assert outcomes["nested"] == outcomes["lists"] == outcomes["table"] == "refused"
    assert outcomes["entities"] == outcomes["long attribute"] == "text"
    assert set(outcomes.values()) <= {"text", "no text", "refused", "too slow", "too much memory"}


def test_the_step_and_its_reasons():
    step = Extract(least_characters=3)
    page = Document("<p>words", "a", {"url": "u", "content_type": "text/html"})
    found = step.apply(page)
    assert found.text == "words" and found.id == "a"
    assert found.metadata == {"url": "u", "content_type": "text/plain"}
    assert step.apply(found) is found  # text stays as it is, even with signs like a tag's
    assert step.apply(page.but("<p>ab")) == Drop("no text", "5 characters of HTML")
    assert step.apply(page.but("<i>" * 201)).reason == "refused"
    long = page.but("<p>word" * 400_000)
    assert Extract(seconds=0.001, sandbox=step.sandbox).apply(long).reason == "too slow"
    step.sandbox.close()
    with pytest.raises(ValueError, match="engine='lynx' is not allowed"):
        Extract(engine="lynx")
    with pytest.raises(ValueError, match="seconds=0 is not allowed"):
        Extract(seconds=0)


def test_trafilatura_as_the_engine():
    pytest.importorskip("trafilatura")
    step = Extract(engine="trafilatura", seconds=60)  # the first call imports it
    words = "A sentence of some length that stands in the middle of a page. " * 9
    page = Document(f"<html><body><article><p>{words}</p></article></body></html>", "a")
    assert step.apply(page).text.startswith("A sentence of some length")
    assert step.apply(page) == step.apply(page)
    assert step.apply(page.but("<div>" * 300)).reason == "refused"
    step.sandbox.close()


MARKED = [
    ("# Title\n## Sub", "Title\nSub"),
    ("**bold** and __bold__", "bold and bold"),
    ("***both***", "both"),
    ("*it* (*it*)", "it (it)"),
    ("这是**粗体**文字", "这是粗体文字"),
    ("`code` and `x = 1`", "code and x = 1"),
    ('[text](http://a.example/x_y) ![alt](i.png "t")', "text alt"),
    ("- one\n* two\n+ three", "one\ntwo\nthree"),
    ("> quoted", "quoted"),
    ("above\n***\n- - -\nbelow", "above\nbelow"),
    ("Title\n=====\ntext", "Title\ntext"),
    ("```python\n# kept *as* it is\n```\n# gone", "\n# kept *as* it is\n\ngone"),
]
UNMARKED = [
    "2 * 3 * 4",
    "2**3**4 and x**2 + y**2 = z**2",
    "snake_case_name and _private",
    "author__name__icontains and a__b__c",
    "def __init__(self, *args, **kwargs):",
    "f(*a, *b)",
    "#hashtag and C# and #1",
    "a[0](x y) and [note]",
    "price* and tax*",
    "1. first\n2. second",
    "a - b - c",
    "5 > 3 and x -> y",
    "half a `tick",
    "",
]


@pytest.mark.parametrize(("text", "plain"), MARKED)
def test_markdown_goes(text, plain):
    assert strip_markdown(text) == plain


@pytest.mark.parametrize("text", UNMARKED)
def test_what_only_looks_like_markdown_stays(text):
    assert strip_markdown(text) == text
    document = Document(text, "a")
    assert StripMarkdown().apply(document) is document


@pytest.mark.parametrize(
    "unit",
    ["*", "**a", "_", "__a", "`", "`a", "[", "[a](", "![a](b", "# ", "- ", "* ", "*a ", "> ",
     "~~~", "```\n", "***a", "=", "-\t", "<div ", "<script", "</", "<a b='"],
)  # fmt: skip
def test_linear_time(unit):
    short, long = unit * (20_000 // len(unit)), unit * (80_000 // len(unit))
    assert_linear(strip_markdown, short, long, at_most=8)
    assert _BOTH_SIDES.sub(r"\3", "**a**") == "a"


def test_a_wrapper_named_after_its_sidebar_keeps_its_text():
    body = "<p>" + "A long sentence about the sea and its tides. " * 20 + "</p>"
    side = "<div class='sidebar'><p>Latest posts and other news</p></div>"
    text = extract_text(f"<body><div class='content has-sidebar'>{body}{side}</div></body>")
    assert "tides" in text
    assert "Latest posts" not in text


PROSE = "<p>" + "The harbour is deep enough for ferries at all hours of the day. " * 9 + "</p>"
LINE = "Another sentence about the tides that is long enough to count as one for itself, and more. "


def test_a_page_in_one_form_is_read_and_the_form_of_a_search_is_not():
    page = f"<form action=p.aspx><input type=hidden value=x><h1>Tides</h1>{PROSE}</form>"
    assert extract_text(page).startswith("Tides\nThe harbour")
    search = f"<form><label>Search this site</label><input name=q></form>{PROSE}"
    assert "Search" not in extract_text(search)


def test_ids_made_from_headings_are_no_frames():
    for tag in ("section", "div"):
        page = f"<{tag} id=cookies class=level1><h2>Cookies</h2><p>A server sets one.</p></{tag}>"
        assert extract_text(page + PROSE).startswith("Cookies\nA server sets one.")
    assert "Related work" in extract_text(f'<h2 id="related-work">Related work</h2>{PROSE}')
    for frame in ("<div id=cookies>We use them</div>", "<section class=related>More</section>"):
        assert extract_text(frame + PROSE).startswith("The harbour")


@pytest.mark.parametrize("word", ["sidebar", "comments", "related", "ads", "nav"])
def test_no_name_takes_away_what_holds_most_of_the_text(word):
    for name in ("class", "id"):
        assert "harbour" in extract_text(f"<p>short</p><div {name}={word}>{PROSE}</div>")


def test_comments_go_unless_they_are_the_page_and_answers_stay():
    comments = f"<div class=comments><div class=comment><p>{LINE}</p></div></div>"
    assert "tides" not in extract_text(PROSE + comments)
    assert "tides" in extract_text("<h1>What do you think?</h1>" + comments * 2)
    answers = "".join(f"<div class=answer><p>{LINE * 3}{n}</p></div>" for n in range(3))
    assert extract_text(f"<div class=question>{PROSE}</div>{answers}").count("tides") == 9


def test_teasers_of_other_pages_go_and_lists_stay():
    card = "<li><h3><a href=/{0}>A headline of another page</a></h3><p>" + LINE + "</p></li>"
    cards = "<ul class=more>" + "".join(card.format(n) for n in range(5)) + "</ul>"
    assert "headline" not in extract_text(f"<article>{PROSE * 2}</article>{cards}")
    assert "headline" in extract_text(cards)  # where they are all there is
    plain = "<ul>" + "".join(f"<li>Step {n}: turn the key.</li>" for n in range(5)) + "</ul>"
    assert extract_text(PROSE + plain).count("turn the key") == 5


def test_a_page_that_is_hidden_until_a_script_shows_it():
    assert "harbour" in extract_text(f"<div style='visibility:hidden'>{PROSE}</div>")
    assert "harbour" not in extract_text(f"<div hidden>{PROSE}</div><div>{PROSE}x</div>")[600:]


def test_a_gallery_says_the_same_once():
    picture = "<div>A long line about one picture of the harbour and of all its ferries</div>"
    assert extract_text(f"{PROSE}{picture}{picture}<div>by me</div>{picture}").count("picture") == 1


def test_only_markdown_is_stripped_of_markdown():
    code = "if __name__ == '__main__':\n    # count\n    print(x.__dict__)"
    step, strip = Extract(), StripMarkdown()
    html = step.apply(Document(f"<p>Run:</p><pre>{code}</pre>", "a"))
    assert strip.apply(html) is html and html.text.endswith(code)
    assert html.metadata["code_lines"] == sorted(code.split("\n"))
    marked = Document("# Title\n**bold**", "a", {"content_type": "text/markdown"})
    assert step.apply(marked) is marked  # its signs are no markup for a parser of HTML
    assert strip.apply(marked) == Document("Title\nbold", "a", {"content_type": "text/plain"})
    plain = marked.but(content_type="text/plain")
    assert strip.apply(plain) is plain
    step.sandbox.close()
