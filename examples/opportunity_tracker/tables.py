"""The tables: opportunities and their calls. All times are Unix seconds."""

from __future__ import annotations

from typing import Any, Literal, get_args

from sqlalchemy import JSON, CheckConstraint, ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Status = Literal["pending", "parsing", "completed", "failed"]
STATUSES: tuple[str, ...] = get_args(Status)
UNFINISHED = ("pending", "parsing")


class Table(DeclarativeBase):
    """What all tables have in common."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012 - SQLAlchemy's own way


class Opportunity(Table):
    """A deal that may come about. All but its name is the history of its parsed calls, written by the job."""

    __tablename__ = "opportunities"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[float]
    calls_parsed: Mapped[int] = mapped_column(default=0)
    last_call_at: Mapped[float | None]
    sentiment: Mapped[str | None] = mapped_column(String(20))
    budget: Mapped[str | None] = mapped_column(Text)
    timeline: Mapped[str | None] = mapped_column(Text)
    participants: Mapped[list[str]] = mapped_column(default=list)
    pain_points: Mapped[list[str]] = mapped_column(default=list)
    objections: Mapped[list[str]] = mapped_column(default=list)
    next_steps: Mapped[list[str]] = mapped_column(default=list)
    calls: Mapped[list[Call]] = relationship(back_populates="opportunity", order_by="Call.created_at.desc()")

    @property
    def settled(self) -> bool:
        """Whether nothing more happens to it by itself: a call is in the history a moment after it is completed."""
        parsed = sum(call.summary is not None for call in self.calls)
        return self.calls_parsed >= parsed and all(call.settled for call in self.calls)


class Call(Table):
    """A call and what has become of it.

    The `id` is a random one: the server remembers the ids of events, which are made of it, longer than a database may
    live in development.
    `tries` counts how often parsing was asked for, from 1: a job that works for an earlier one changes nothing any
    more. `event_id` is the server's id of the event of the newest one, None while it has not been taken, and `run_id`
    that of the job's run.
    """

    __tablename__ = "calls"
    __table_args__ = (CheckConstraint(f"status IN {STATUSES}", name="status_is_known"),)

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    opportunity_id: Mapped[int] = mapped_column(ForeignKey("opportunities.id"), index=True)
    title: Mapped[str] = mapped_column(String(200))
    transcript: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]
    status: Mapped[str] = mapped_column(String(20), default="pending", index=True)
    changed_at: Mapped[float]
    tries: Mapped[int] = mapped_column(default=1)
    sent_at: Mapped[float | None]
    event_id: Mapped[str | None] = mapped_column(String(64))
    run_id: Mapped[str | None] = mapped_column(String(64))
    summary: Mapped[dict[str, Any] | None]
    model: Mapped[str | None] = mapped_column(String(100))
    error: Mapped[str | None] = mapped_column(Text)
    opportunity: Mapped[Opportunity] = relationship(back_populates="calls")

    @property
    def settled(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.status not in UNFINISHED
