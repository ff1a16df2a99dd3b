"""People's prompts read into the world's attributes, and what of them nothing here can show."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from vidgen_lab.toyworld.language import (
    EXTRA_WORDS,
    FILLERS,
    MOODS,
    OPENINGS,
    OTHER_WORDS,
    PHRASES,
    QUALITIES,
    SPECIAL_MOTIONS,
    motion_phrases,
    naming_words,
    plurals,
    reworded,
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
# What is a subject where nothing else is one: "a flower", and "three yellow stars".
_COLOURS = "|".join(word for group in PHRASES["colour"].values() for word in group)
_OTHER_SUBJECT = re.compile(
    rf"(?<!\w)(?:(?P<rose>flower)|(?P<coffee>cup)|(?:{_COLOURS}|{_NUMBER}) (?P<star>stars))(?!\w)"
)
# What any sentence may hold without naming anything.
_PLAIN = """
    is are be being it its his her their that which who this these there here as for into onto up
    down out off while then very so both all some any one see we i you my your please make show
    shows create generate picture movie film during s t don doesn isn no not without never nor only
    but or by near under above behind beside between among from through across around along me
    toward towards past old style getting cup
"""
# All words of every motion, background and style but the motions of single subjects.
_TABLES: dict[str, Table] = {
    name: {key: phrases + extra.get(key, ()) for key, phrases in PHRASES[name].items()}
    for name, extra in EXTRA_WORDS.items()
}
_WAYS = {"left", "right", "up", "down"}
_TOLD = [*PHRASES["motion"].items(), *((m, told) for (_, m), told in SPECIAL_MOTIONS.items())]
_MOTIONS = [phrase for _, phrases in _TOLD for phrase in phrases]  # of whatever subject
_GOING = {phrase.split()[0] for way, phrases in _TOLD if way in _WAYS for phrase in phrases}
_VERBS = "|".join({phrase.split()[0] for phrase in _MOTIONS})
# What else a colour may belong to.
_NOUNS = [*EXTRA_WORDS["background"].values(), *PHRASES["subject"].values(), ("sky",)]
_OTHER_NOUNS = "|".join({noun for nouns in _NOUNS for noun in nouns} - {*_ADJECTIVES})
_SUGGESTIONS = 20  # unknown words that are compared with the known ones, which takes time


@dataclass(frozen=True)
class Reading:
    """What `read_prompt` finds in a sentence.

    Attributes:
        named: attribute -> value, in the world's vocabulary.
        unjudged: what the sentence says beyond that and no attribute holds: a negation, a number, a
            second subject, an impossible motion, a known word that means nothing where it stands.
        ignored: words this world does not know -> the nearest one it knows, or None.
    """

    named: dict[str, str]
    unjudged: list[str]
    ignored: dict[str, str | None]


def parse_prompt(text: str) -> dict[str, str]:
    """The attributes `text` names, in the world's vocabulary; {} when it names no subject here.

    "a red ball moving left in a desert" -> {"subject": "ball", "colour": "red", "motion": "left",
    "background": "desert"}. What the text leaves open is absent; so is what it denies, and a colour
    in a black-and-white scene.
    """
    return read_prompt(text).named


def unknown_words(text: str) -> dict[str, str | None]:
    """Words that neither captions nor the parser know, and the nearest known one for a typo."""
    known = {*vocabulary(), *_PLAIN.split(), *_NUMBER.split("|")}
    unknown: dict[str, str | None] = {}
    for word in dict.fromkeys(split_words(reworded(text.lower()))):
        if word.isalpha() and word not in known:
            unknown[word] = _meant(word) if len(unknown) < _SUGGESTIONS else None
    return unknown


def _meant(word: str) -> str | None:
    """The word that names something here and that `word` may be a slip of the keyboard from."""
    near = difflib.get_close_matches(word, _telling(), 3, 0.8) if len(word) > 2 else []
    near += [known for known in _telling() if sorted(known) == sorted(word)]  # "bule"
    return next((w for w in near if w[0] == word[0] or not word.isascii()), None)


@cache
def _telling() -> dict[str, None]:
    """The words that name an attribute, without those that any sentence may hold."""
    words = naming_words().difference(_PLAIN.split(), FILLERS.split())
    return dict.fromkeys(sorted(word for word in words if word.isalpha()))


def read_prompt(text: str) -> Reading:
    """Everything of `parse_prompt`, and what it leaves out."""
    words, ignored = split_words(text), unknown_words(text)
    whole = re.sub(r"(?<!\w)\w+n ['’] t(?!\w)", "not", " ".join(words))  # doesn't, can't
    unjudged = [f"negation ({' '.join(m.group().split())})" for m in _NEGATED.finditer(whole)]
    numbers = re.findall(rf"(?<!\w)(?:{_NUMBER})(?!\w)", whole)
    unjudged += [f"number ({w})" for w in numbers or [w for w in words if w in plurals()]]
    text = " ".join(split_words(reworded(_NEGATED.sub(" ", whole))))
    text = re.sub(r"(?<!\w)(the )?left to (the )?right(?!\w)", "right", text)
    text = re.sub(r"(?<!\w)(the )?right to (the )?left(?!\w)", "left", text)
    subjects = _find(text, PHRASES["subject"])
    if not subjects and (other := _OTHER_SUBJECT.search(text)):
        subjects = [(*other.span(other.lastgroup), other.lastgroup)]
    if not subjects:
        return Reading({}, unjudged, ignored)
    start, stop, subject = subjects[0]
    others = dict.fromkeys(key for *_, key in subjects if key != subject)
    unjudged += [f"second subject ({key})" for key in others]
    # "a star" is a subject, "under the stars" a place, so the subject's own word is left out.
    outside = text[:start] + " " * (stop - start) + text[stop:]
    motion = _motion(text, subject)
    if not motion and (verb := _first(text, {said: (said,) for said in (*_MOTIONS, *_GOING)})):
        knows = verb in _GOING and not _WAYS.isdisjoint(LEGAL_MOTIONS[subject])
        why = "which way?" if knows else f"a {subject} does not do that here"
        unjudged.append(f"motion ({verb}: {why})")
    found = {
        "subject": subject,
        "colour": _colour(_NO_COLOUR.sub(lambda m: " " * len(m.group()), text), subjects[0]),
        "motion": motion,
        "background": _background(outside),
        "style": _first(re.sub(r"\b(starry night|night sky)\b", " ", outside), _TABLES["style"]),
    }
    if left := _unused(outside, found):
        unjudged.append(f"no meaning here ({', '.join(left)})")
    if found["style"] == "vintage" and found["colour"]:
        unjudged.append(f"colour ({found.pop('colour')}: black and white shows none)")
    return Reading({name: value for name, value in found.items() if value}, unjudged, ignored)


def _unused(text: str, found: Mapping[str, str | None]) -> list[str]:
    """Words of `text` that the world knows and that name nothing where they stand: the black of a
    black dog, the second of two places. A colour may be another thing's, a second subject is told
    by itself."""
    subject, motion = found["subject"], found["motion"]
    used = [*QUALITIES, *MOODS, *OPENINGS, *PHRASES["subject"][subject]]
    used += [word for words in PHRASES["colour"].values() for word in words]
    used += [noun for nouns in PHRASES["subject"].values() for noun in nouns if " " not in noun]
    used += [word for name, table in _TABLES.items() for word in table.get(found[name], ())]
    used += motion_phrases(subject, motion) if motion else _MOTIONS
    used += (motion, *_GOING) if motion in _WAYS else ()
    words = set(split_words(" ".join(used)))
    return [w for w in dict.fromkeys(split_words(text)) if w in _telling() and w not in words]


def word_list() -> str:
    """The world's words by attribute, for people; what the shipped models never saw is marked."""
    reserved = dict.fromkeys(RESERVED_SUBJECTS + RESERVED_STYLES, "  (kept for chapter 5)")
    lines = []
    for attribute, table in PHRASES.items():
        lines.append(f"{attribute.capitalize()}s")
        for key, phrases in table.items():
            note = reserved.get(key, "")
            lines.append(f"  {key.replace('_', ' '):<12} {', '.join(phrases)}{note}")
    lines.append("Motions of some subjects")
    for subject, told in groupby(SPECIAL_MOTIONS.items(), lambda told: told[0][0]):
        phrases = ", ".join(phrase for _, phrases in told for phrase in phrases)
        lines.append(f"  {subject:<12} {phrases}")
    other = ", ".join(f"{said} ({word})" for said, word in OTHER_WORDS.items())
    lines += ["Also read", f"  verbs in other forms (bounces, bounce), plurals, {other}"]
    return "\n".join(lines)


def _colour(text: str, subject: Hit) -> str | None:
    """The colour that belongs to the subject: "a red ball", "a ball, deep red", but not that of
    "a ball near a red flower" or "a red desert with a ball"."""
    nouns = rf"(?<!\w)({_PREPOSITION}|{_OTHER_NOUNS})(?!\w)"
    colours = _find(text, PHRASES["colour"])
    before = [hit for hit in colours if hit[0] <= subject[0]]
    if before and not re.search(nouns, text[before[-1][1] : subject[0]]):
        return before[-1][2]
    own = "|cup" if subject[2] == "coffee" else ""  # "coffee poured into a red cup"
    ends = rf"\s*($|[,.;:!?]|(and|up|down|{_PREPOSITION}|{_VERBS}{own})(?!\w))"
    for start, stop, colour in colours:
        after = text[stop:]
        if start >= subject[1] and (
            re.match(ends, after)
            or (text[:start].endswith("with ") and not re.match(rf"\s*{nouns}", after))
        ):
            return colour
    return None


def _background(text: str) -> str | None:
    """A phrase or a noun before a mere adjective: "over snowy mountains" are mountains."""
    words = _TABLES["background"]
    places = {key: tuple(w for w in words[key] if w not in _ADJECTIVES) for key in words}
    return _first(text, places) or _first(text, words)


def _motion(text: str, subject: str) -> str | None:
    """The first motion that is told in full; or the way told by itself; or, for a car that is
    "driving" and nothing else, where it drives in this world."""
    words = _TABLES["motion"]
    legal = {m: motion_phrases(subject, m) + words[m] for m in LEGAL_MOTIONS[subject]}
    bare = [p for p in SPECIAL_MOTIONS.get((subject, "right"), ()) if "right" not in p]
    told = {m: tuple(p for p in phrases if p not in bare) for m, phrases in legal.items()}
    ways = {m: (m, f"{m}wards") for m in legal if m in _WAYS}
    return _first(text, told) or _first(text, ways) or _first(text, legal)


def _first(text: str, table: Table) -> str | None:
    """The key of the first phrase of `table` in `text`."""
    return next((key for *_, key in _find(text, table)), None)


def _find(text: str, table: Table) -> list[Hit]:
    """Every phrase of `table` in `text`, longest first at one place, no overlaps."""
    keys = {said.replace("-", " - "): key for key in table for said in table[key]}  # as split
    phrases = sorted(map(re.escape, keys), key=len, reverse=True)
    pattern = rf"(?<!\w)(?:{'|'.join(phrases) or '(?!)'})(?!\w)"
    return [(*m.span(), keys[m.group()]) for m in re.finditer(pattern, text)]
