"""What of a prompt an embedded model cannot follow: it knows one small world."""

from vidgen_lab.settings.tiers import model_facts
from vidgen_lab.toyworld.prompts import read_prompt, unknown_words
from vidgen_lab.toyworld.world import RESERVED_STYLES, RESERVED_SUBJECTS, SUBJECTS


def knows_one_world(model: str | None) -> bool:
    """Whether a model of this name is an embedded one."""
    facts = model_facts(model or "")
    return bool(facts and facts.embedded)


def ignored_words(prompt: str, model: str | None) -> dict[str, str | None]:
    """Words without effect, each with the known one it may be a typo of; {} if not embedded."""
    return unknown_words(prompt) if knows_one_world(model) else {}


def words_note(prompt: str, model: str | None, adapted: bool = False) -> str:
    """What the model never saw and what no clip of its can show, a sentence a line.

    Empty where there is nothing to say. A model `adapted` by a LoRA may have been taught what was
    kept for chapter 5.
    """
    if not knows_one_world(model):
        return ""
    lines, reading = [], read_prompt(prompt)
    reserved = () if adapted else RESERVED_SUBJECTS + RESERVED_STYLES
    if kept := [name for name in reading.named.values() if name in reserved]:
        lines.append(f"Kept for chapter 5: {', '.join(kept)}. The model never saw one.")
    if unknown := reading.ignored:
        words = ", ".join(f"{word} ({near}?)" if near else word for word, near in unknown.items())
        lines.append(
            f"Ignored: {words}. The model never saw these; vidgen-lab words lists what it knows."
        )
    if reading.unjudged:
        lines.append(f"Not for this model: {'; '.join(reading.unjudged)}.")
    if any(said.startswith("negation") for said in reading.unjudged):
        lines.append("What should not be there belongs in the negative prompt.")
    if not reading.named:
        lines.append(f"No subject of its world is named; it draws {', '.join(SUBJECTS)}.")
    return "\n".join(lines)
