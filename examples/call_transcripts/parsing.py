"""Find what a salesperson wants to know in the transcript of a call.

This stands in for a language model, so that the example needs no account and no key: it looks for words and
cuts sentences, gives the same answer every time, and understands nothing. A real app would call its model here.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TypedDict

PARSER = "keyword stand-in (no language model)"

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
SPEAKER = re.compile(r"(?:^|(?<=[.!?]))\s*([A-Z][\w .'-]{0,40}):\s*(?=\S)", re.MULTILINE)
MONEY = re.compile(r"[$€£]\s?\d[\d,.]*\d?\s?[kKmM]?\b|\b\d[\d,.]*\s?(?:dollars|euros|pounds)\b")
WORDS = {
    "pain_points": (
        "problem",
        "slow",
        "manual",
        "struggle",
        "difficult",
        "expensive",
        "lose",
        "lost",
        "frustrat",
    ),
    "next_steps": (
        "next step",
        "follow up",
        "follow-up",
        "send you",
        "schedule",
        "next week",
        "by friday",
        "demo",
    ),
    "objections": (
        "too expensive",
        "not sure",
        "concern",
        "worried",
        "competitor",
        "already use",
        "no budget",
    ),
}
POSITIVE = ("great", "love", "perfect", "excited", "interested", "sounds good", "yes")
NEGATIVE = ("no budget", "not interested", "expensive", "worried", "concern", "cancel", "problem", "frustrat")


class ParsedCall(TypedDict):
    """What was found. Lists hold sentences of the transcript as they stand; `sentiment` is -1, 0 or 1."""

    parser: str
    speakers: list[str]
    budget: list[str]
    pain_points: list[str]
    next_steps: list[str]
    objections: list[str]
    sentiment: int
    words: int


def parse_transcript(transcript: str) -> ParsedCall:
    """Parse a transcript. Raises ValueError if there is no word in it."""
    words = len(transcript.split())
    if not words:
        raise ValueError("the transcript is empty: nothing to parse")
    sentences = [part.strip() for part in SENTENCE_END.split(transcript) if part.strip()]
    spoken = [SPEAKER.sub("", sentence) for sentence in sentences]
    lower = transcript.lower()
    score = sum(lower.count(word) for word in POSITIVE) - sum(lower.count(word) for word in NEGATIVE)
    return {
        "parser": PARSER,
        "speakers": [name for name, _ in Counter(SPEAKER.findall(transcript)).most_common()],
        "budget": [amount.strip(" .,") for amount in MONEY.findall(transcript)],
        "pain_points": sentences_with(spoken, WORDS["pain_points"]),
        "next_steps": sentences_with(spoken, WORDS["next_steps"]),
        "objections": sentences_with(spoken, WORDS["objections"]),
        "sentiment": (score > 0) - (score < 0),
        "words": words,
    }


def sentences_with(sentences: list[str], words: tuple[str, ...]) -> list[str]:
    """The sentences that hold one of the words, in their order."""
    return [sentence for sentence in sentences if any(word in sentence.lower() for word in words)]
