"""What the demo model finds in a transcript: it looks for words, cuts sentences, and understands nothing.

The same transcript brings the same answer every time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from examples.opportunity_tracker.summary import CallSummary, Participant, Sentiment

MOST = 5
"""Sentences in one field."""

TIME = r"(?:[\[(]?\d{1,2}:\d{2}(?::\d{2})?[\])]?[\s-]*)?"
NAME = r"[^\W\d_][\w.'()/-]*(?: [\w.'()/-]+){0,3}"
LINE = re.compile(rf"^\s*(?:>\s*)?{TIME}(?P<name>{NAME})\s*:\s+(?P<said>.*)$")
# The end of a turn, and where the next begins in the same line. A name is shorter there: it may be a sentence.
INLINE = re.compile(r"(?<=[.!?…])\s+(?=[^\W\d_a-z]\w*(?: \w+)?:\s)")
NO_NAMES = frozenset(("present", "date", "subject", "participants", "note"))
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")
MONEY = re.compile(
    r"(?:[$€£]|USD|EUR)\s?\d[\d,.']*\d?\s?(?:[kKmM]\b)?|\b\d[\d,.']*\s?(?:[kKmM]\s?)?(?:dollars|euros?|pounds|[$€£])",
    re.IGNORECASE,
)
WORDS = {
    "pain_points": (
        "problem", "slow", "manual", "by hand", "struggl", "takes us", "error", "lose ", "losing", "lost", "frustrat",
        "painful", "copy and paste", "spreadsheet", "von hand", "verlieren", "dauert", "fehler",
    ),
    "next_steps": (
        "next step", "follow up", "follow-up", "i will send", "i'll send", "please send", "schedule a", "schedule the",
        "set up a", "pilot", "book a", "nächster schritt", "schicke ihnen", "sende ihnen", "termin",
    ),
    "objections": (
        "too expensive", "not sure", "concern", "worried", "worry", "competitor", "already use", "no budget", "hesita",
        "doubt", "security review", "lock-in", "zu teuer", "bedenken", "nicht sicher",
    ),
    "timeline": (
        "by the end of", "this quarter", "next quarter", "of the quarter", "next month", "deadline", "goes live",
        "go live", "before the season", "in january", "in september", "ende des", "quartals",
        "nächsten monat", "bis zum",
    ),
    "budget": ("budget", "spend", "price", "cost", "kostet", "preis"),
}  # fmt: skip
POSITIVE = (
    "great", "love", "perfect", "excited", "interested", "sounds good", "impress", "happy", "looking forward",
    "exactly", "klingt gut", "gefällt", "genau",
)  # fmt: skip
NEGATIVE = (
    "no budget", "not interested", "too expensive", "worried", "concern", "cancel", "frustrat", "disappoint",
    "not sure", "zu teuer", "bedenken", "leider",
)  # fmt: skip
ROLES = {
    "seller": ("account executive", "customer success", "seller", "sales", "verkäufer", "vertrieb"),
    "buyer": ("buyer", "customer", "client", "prospect", "kunde", "käufer"),
    "engineer": ("engineer", "technical", "architect", "technik"),
    "finance": ("finance", "cfo", "controller", "accounting", "finanz", "buchhaltung"),
    "operations": ("operations", "ops", "logistics", "betrieb"),
}


def summarise(transcript: str) -> CallSummary:
    """Everything that the words give away."""
    said = list(turns(transcript))
    spoken = [text for name, text in said if name] or [text for _, text in said]
    # Questions tell what the other side wants to know, not how things are.
    sentences = [one for text in spoken for one in SENTENCE_END.split(text) if one and not one.endswith("?")]
    names = list(dict.fromkeys(name for name, _ in said if name))
    money = [one for one in sentences if MONEY.search(one)]
    return CallSummary(
        participants=[Participant(name=name, role=role_of(name)) for name in names],
        pain_points=having(sentences, WORDS["pain_points"]),
        next_steps=having(sentences, WORDS["next_steps"]),
        objections=having(sentences, WORDS["objections"]),
        budget=next(iter([*having(money, WORDS["budget"]), *money]), None),
        timeline=next(iter(having(sentences, WORDS["timeline"])), None),
        sentiment=mood_of(transcript.lower()),
    )


def turns(transcript: str) -> Iterator[tuple[str, str]]:
    """Who said what. A line without a name goes on with what was said before."""
    name, said = "", ""
    for line in (part for whole in transcript.splitlines() for part in INLINE.split(whole)):
        found = LINE.match(line)
        if found is None or found["name"].lower() in NO_NAMES:
            said = f"{said} {line.strip()}"
            continue
        if said.strip():
            yield name, said.strip()
        name, said = tidy(found["name"]), found["said"]
    if said.strip():
        yield name, said.strip()


def tidy(name: str) -> str:
    """A name as it is written in all turns: one blank between words, a capital at the beginning."""
    words = " ".join(name.split())
    words = words if any(map(str.islower, words)) else words.lower()
    return words[:1].upper() + words[1:]


def role_of(name: str) -> str:
    """What a name gives away of the part in the sale."""
    lower = name.lower()
    return next((role for role, words in ROLES.items() if any(word in lower for word in words)), "")


def having(sentences: Sequence[str], words: Sequence[str]) -> list[str]:
    """The first sentences that hold one of the words."""
    found = [one for one in sentences if any(word in one.lower() for word in words)]
    return list(dict.fromkeys(found))[:MOST]


def mood_of(text: str) -> Sentiment:
    """Which kind of words there is more of."""
    score = sum(map(text.count, POSITIVE)) - sum(map(text.count, NEGATIVE))
    return "positive" if score > 0 else "negative" if score < 0 else "neutral"
