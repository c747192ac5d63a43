"""The colours of the whole course, by what they mean. Colour is never the only sign.

A role has one colour on light paper, written into the picture, and one on dark paper, put there
by a style sheet that finds the light one. So each role has a literal of its own: two roles of one
colour could not be told apart in the dark. The hues are Okabe and Ito's, which most colour-blind
people tell apart.
"""

ROLES: dict[str, tuple[str, str]] = {
    # ground
    "ink": ("#1b1f24", "#e6e9ed"),
    "soft": ("#57606a", "#a8b0b8"),
    "grid": ("#d0d7de", "#3d444d"),
    "paper": ("#ffffff", "#16191d"),
    "tint": ("#eef1f4", "#262c33"),
    "quiet": ("#c3ccd5", "#56606b"),
    # series, in this order
    "first": ("#0072b2", "#56b4e9"),
    "second": ("#e69f00", "#f0b840"),
    "third": ("#009e73", "#3ddbad"),
    "fourth": ("#d55e00", "#ff9a57"),
    "fifth": ("#cc79a7", "#e6a5c8"),
    "sixth": ("#56b4e9", "#9bd4f5"),
    "seventh": ("#8a8a00", "#cfcf4a"),
    "eighth": ("#666666", "#b0b0b0"),
    # what a mark stands for
    "chosen": ("#e69f01", "#f0b841"),
    "main": ("#0072b3", "#57b4e9"),
    "reference": ("#57606b", "#a8b0b9"),
    "published": ("#8a4f9e", "#c99ad9"),
    "measured": ("#009e74", "#3ddbae"),
    "good": ("#00795a", "#3ddbac"),
    "bad": ("#c24d00", "#ff9a58"),
    # parts of a Transformer
    "query": ("#0072b1", "#56b4ea"),
    "key": ("#e69f02", "#f0b842"),
    "value": ("#009e75", "#3ddbaf"),
    "output": ("#cc79a8", "#e6a5c9"),
    "attention": ("#009e76", "#3ddbb0"),
    "feed_forward": ("#d55e01", "#ff9a59"),
    "embedding": ("#56b4eb", "#9bd4f6"),
    "norm": ("#8a8a01", "#cfcf4b"),
    # words on a filled mark: the same on light and dark paper
    "on_dark": ("#fefefe", "#101215"),
    "on_light": ("#1b1f25", "#1b1f25"),
}
SERIES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def colour(role: str) -> str:
    """The colour of a role on light paper; "none" stays.

    Raises ValueError for a role that is not in the table.
    """
    if role == "none":
        return role
    if role not in ROLES:
        raise ValueError(f"role={role!r} is not allowed: one of {', '.join(ROLES)}")
    return ROLES[role][0]


def dark_sheet() -> str:
    """Rules that give a picture inside `.l3` its dark colours."""
    rules = []
    for role, (light, dark) in ROLES.items():
        name = f"--l3-c-{role.replace('_', '-')}"
        rules.append((f"{name}: {light};", f"{name}: {dark};"))
    lights, darks = (" ".join(rule[i] for rule in rules) for i in (0, 1))
    paint = "\n".join(
        f'.l3-picture [{what}="{light}"] {{ {what}: var(--l3-c-{role.replace("_", "-")}); }}'
        for role, (light, _) in ROLES.items()
        for what in ("fill", "stroke")
    )
    return (
        f".l3 {{ {lights} }}\n"
        f'[data-jp-theme-light="false"] .l3 {{ {darks} }}\n'
        "@media (prefers-color-scheme: dark) { "
        f"body:not([data-jp-theme-light]) .l3 {{ {darks} }} }}\n"
        f"@media print {{ .l3 {{ {lights} }} }}\n{paint}\n"
    )
