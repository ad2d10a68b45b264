"""What is wanted of a call: the fields that Gemini fills in, with the words that explain them to it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Sentiment = Literal["positive", "neutral", "negative"]


class Participant(BaseModel):
    """Somebody who spoke in the call."""

    name: str = Field(description="Name or role, as the transcript has it")
    role: str = Field(
        description="Part in the sale, such as buyer, seller or engineer; empty if it is not clear"
    )


class CallSummary(BaseModel):
    """A call in a few lines. Everything in the language of the transcript, except for the sentiment."""

    participants: list[Participant] = Field(description="Everybody who spoke, once each")
    pain_points: list[str] = Field(description="Problems that the customer has today, one sentence each")
    next_steps: list[str] = Field(
        description="What was agreed to happen next, with who and when if it was said"
    )
    objections: list[str] = Field(description="Doubts and reasons against buying, one sentence each")
    budget: str | None = Field(description="The budget or price that was named; null if there was none")
    timeline: str | None = Field(description="When they want to decide or start; null if it was not said")
    sentiment: Sentiment = Field(description="The mood of the customer towards buying")
