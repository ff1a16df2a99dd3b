"""People's prompts read into the world's attributes, and what of them nothing here can show."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from vidgen_lab.toyworld.language import (
    BACKGROUND_PHRASES,
    COLOUR_WORDS,
    EXTRA_WORDS,
    MOTION_PHRASES,
    SPECIAL_MOTIONS,
    STYLE_PHRASES,
    SUBJECT_NOUNS,
    motion_phrases,
    split_words,
    vocabulary,
)
from vidgen_lab.toyworld.world import LEGAL_MOTIONS, RESERVED_STYLES, RESERVED_SUBJECTS

Table = Mapping[str, tuple[str, ...]]
Hit = tuple[int, int, str]  # where it starts, where it stops, which key it names

# Up to the next comma or conjunction: what a prompt says is not there.
_NEGATED = re.compile(
    r"(?<!\w)(no|not|without|never|nor)(?!\w)[^,.;:!?]*?(?=$| (?:and|but) |[,.;:!?])"
)
_NUMBER = r"[0-9]+|two|three|four|five|six|seven|eight|nine|ten|several|many|pair of|dozen"
_PREPOSITION = (
    "in|on|over|at|under|across|with|through|near|by|of|from|behind|above|among|between|beside"
)
_NO_COLOUR = re.compile(r"black (- )?and (- )?white")  # names a style
_ADJECTIVES = ("snowy", "winter")  # of a place only where no place is named: "snowy mountains"
# What any sentence may hold without naming anything.
_PLAIN = """
    is are be being it its his her their that which who this these there here as for into onto up
    down out off while then very so both all some any one see we i you my your please make show
    shows create generate picture movie film during s t don doesn isn no not without never nor only
    but or by near under above behind beside between among from through across
"""
_SUGGESTIONS = 20  # unknown words that are compared with the known ones, which takes time


@dataclass(frozen=True)
class Reading:
    """What `read_prompt` finds in a sentence.

    named: attribute -> value, in the world's vocabulary. unjudged: what the sentence says beyond
    that and no attribute holds: a negation, a number, a second subject, an impossible motion.
    ignored: words this world does not know -> the nearest one it knows, or None.
    """

    named: dict[str, str]
    unjudged: list[str]
    ignored: dict[str, str | None]


def parse_prompt(text: str) -> dict[str, str]:
    """The attributes `text` names, in the world's vocabulary; {} when it names no subject of this
    world.

    "a red ball moving left in a desert" -> {"subject": "ball", "colour": "red", "motion": "left",
    "background": "desert"}. What the text leaves open is absent; so is what it denies, and a colour
    in a black-and-white scene.
    """
    return _read(text)[0]


def unknown_words(text: str) -> dict[str, str | None]:
    """Words that neither captions nor the parser know, and the nearest known one for a typo."""
    known = {*vocabulary(), *_PLAIN.split(), *_NUMBER.split("|"), *_plurals()}
    candidates = [word for word in vocabulary() if len(word) > 2]
    unknown: dict[str, str | None] = {}
    for word in dict.fromkeys(split_words(text)):
        if word.isalpha() and word not in known:
            compared = len(word) > 2 and len(unknown) < _SUGGESTIONS
            near = difflib.get_close_matches(word, candidates, 1, 0.75) if compared else []
            unknown[word] = near[0] if near else None
    return unknown


def read_prompt(text: str) -> Reading:
    """Everything of `parse_prompt`, and what it leaves out."""
    return Reading(*_read(text), unknown_words(text))


def _read(text: str) -> tuple[dict[str, str], list[str]]:
    """What a sentence names, and what no attribute holds."""
    words = split_words(text)
    # several of a subject are that subject; "stars" are left alone, they are a place
    whole = " ".join(_plurals().get(word, word) for word in words)
    whole = re.sub(r"(?<!\w)\w+n ['’] t(?!\w)", "not", whole)  # doesn't, can't
    unjudged = [f"negation ({' '.join(m.group().split())})" for m in _NEGATED.finditer(whole)]
    numbers = re.findall(rf"(?<!\w)(?:{_NUMBER})(?!\w)", whole)
    unjudged += [f"number ({w})" for w in numbers or [w for w in words if w in _plurals()]]
    text = _NEGATED.sub(" ", whole)
    subjects = _find(text, SUBJECT_NOUNS)
    if not subjects and (flower := re.search(r"\bflower\b", text)):
        subjects = [(*flower.span(), "rose")]
    if not subjects:
        return {}, unjudged
    subject = subjects[0]
    others = dict.fromkeys(key for *_, key in subjects if key != subject[2])
    unjudged += [f"second subject ({key})" for key in others]
    # "a star" is a subject, "under the stars" a place, so the subject's own word is left out.
    outside = text[: subject[0]] + " " * (subject[1] - subject[0]) + text[subject[1] :]
    motion = _motion(text, subject[2])
    if not motion and (verb := _first(text, {phrase: (phrase,) for phrase in _motion_words()})):
        unjudged.append(f"motion ({verb}: a {subject[2]} does not do that here)")
    found = {
        "subject": subject[2],
        "colour": _colour(_NO_COLOUR.sub(lambda m: " " * len(m.group()), text), subject),
        "motion": motion,
        "background": _background(outside),
        "style": _style(outside),
    }
    if found["style"] == "vintage" and found["colour"]:
        unjudged.append(f"colour ({found.pop('colour')}: black and white shows none)")
    return {name: value for name, value in found.items() if value}, unjudged


def word_list() -> str:
    """The world's words by attribute, for people; what the shipped models never saw is marked."""
    reserved = dict.fromkeys(RESERVED_SUBJECTS + RESERVED_STYLES, "  (kept for chapter 5)")
    tables: dict[str, Table] = {
        "Subjects": SUBJECT_NOUNS,
        "Colours": COLOUR_WORDS,
        "Motions": MOTION_PHRASES,
        "Backgrounds": BACKGROUND_PHRASES,
        "Styles": STYLE_PHRASES,
    }
    special: dict[str, dict[str, None]] = {}
    for (subject, _), phrases in SPECIAL_MOTIONS.items():
        special.setdefault(subject, {}).update(dict.fromkeys(phrases))
    lines = []
    for title, table in tables.items():
        lines.append(title)
        for key, phrases in table.items():
            note = reserved.get(key, "")
            lines.append(f"  {key.replace('_', ' '):<12} {', '.join(phrases)}{note}")
    lines.append("Motions of some subjects")
    lines += [f"  {subject:<12} {', '.join(phrases)}" for subject, phrases in special.items()]
    return "\n".join(lines)


def _colour(text: str, subject: Hit) -> str | None:
    """The colour that belongs to the subject: "a red ball", "a ball, deep red", but not that of
    "a ball near a red flower" or "a red desert with a ball"."""
    nouns = rf"(?<!\w)({_PREPOSITION}|{_other_nouns()})(?!\w)"
    colours = _find(text, COLOUR_WORDS)
    before = [hit for hit in colours if hit[0] <= subject[0]]
    if before and not re.search(nouns, text[before[-1][1] : subject[0]]):
        return before[-1][2]
    ends = rf"\s*($|[,.;:!?]|(and|{_PREPOSITION}|{_verbs()})(?!\w))"
    for start, stop, colour in colours:
        after = text[stop:]
        if start >= subject[1] and (
            re.match(ends, after)
            or (text[:start].endswith("with ") and not re.match(rf"\s*{nouns}", after))
        ):
            return colour
    return None


@cache
def _other_nouns() -> str:
    """What else a colour may belong to, as a pattern."""
    words = {w for group in EXTRA_WORDS["background"].values() for w in group}
    words |= {noun for group in SUBJECT_NOUNS.values() for noun in group}
    return "|".join(sorted((words | {"sky"}) - set(_ADJECTIVES), key=len, reverse=True))


def _motion_words() -> list[str]:
    """The words of every motion that some subject of the world does."""
    groups = [*MOTION_PHRASES.values(), *SPECIAL_MOTIONS.values()]
    return [phrase for group in groups for phrase in group]


@cache
def _verbs() -> str:
    return "|".join(sorted({phrase.split()[0] for phrase in _motion_words()}))


def _background(text: str) -> str | None:
    """A phrase or a noun before a mere adjective: "over snowy mountains" are mountains."""
    words = EXTRA_WORDS["background"]
    places = {
        key: phrases + tuple(w for w in words[key] if w not in _ADJECTIVES)
        for key, phrases in BACKGROUND_PHRASES.items()
    }
    adjectives = {key: tuple(w for w in words[key] if w in _ADJECTIVES) for key in words}
    return _first(text, places) or _first(text, adjectives)


def _style(text: str) -> str | None:
    styles = {key: STYLE_PHRASES[key] + EXTRA_WORDS["style"][key] for key in STYLE_PHRASES}
    return _first(re.sub(r"\b(starry )?night sky\b", " ", text), styles)


def _motion(text: str, subject: str) -> str | None:
    legal = {motion: motion_phrases(subject, motion) for motion in LEGAL_MOTIONS[subject]}
    if found := _first(text, legal):
        return found
    for motion in ("left", "right", "up", "down"):
        if motion in legal and re.search(rf"\b{motion}(wards?)?\b", text):
            return motion
    return None


@cache
def _plurals() -> dict[str, str]:
    nouns = {n for group in SUBJECT_NOUNS.values() for n in group if " " not in n} - {"star"}
    plurals = {noun + ("es" if noun.endswith(("x", "sh")) else "s"): noun for noun in nouns}
    plurals |= {noun[:-1] + "ies": noun for noun in nouns if noun.endswith("y")}
    return {plural: noun for plural, noun in plurals.items() if plural not in nouns}


def _find(text: str, table: Table) -> list[Hit]:
    """Every phrase of `table` in `text`, longest first at one place, no overlaps."""
    pattern, keys = _search(tuple(table.items()))
    return [(*m.span(), keys[m.group()]) for m in pattern.finditer(text)]


def _first(text: str, table: Table) -> str | None:
    """The key of the first phrase of `table` in `text`."""
    return next((key for *_, key in _find(text, table)), None)


@lru_cache(maxsize=128)
def _search(table: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[re.Pattern[str], Table]:
    keys = {" ".join(split_words(phrase)): key for key, group in table for phrase in group}
    phrases = sorted(map(re.escape, keys), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(phrases) or '(?!)'})(?!\w)"), keys
