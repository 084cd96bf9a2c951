"""What the page may ask of the studio, with ranges; see page/src/worker/messages.ts."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from ..tools import MOST_BARS_FILLED, MOST_CHARS, Abc, Bar, Instruments

MOST_IDS = 65_536


class _Asked(BaseModel):
    """A question; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class _Request(_Asked):
    most_tokens: int = Field(ge=1, le=8192)


class Conditions(_Asked):
    """What a tune is to be like."""

    meter: str | None = Field(None, max_length=10)
    key: str | None = Field(None, max_length=4)
    tempo: float | None = Field(None, ge=20, le=300)
    instruments: Instruments | None = None


class Write(_Request):
    """A new tune, or one with a given beginning."""

    kind: Literal["write"]
    conditions: Conditions
    prompt: str = Field(max_length=MOST_CHARS)
    has_grammar: bool

    def for_pipeline(self) -> dict[str, Any]:
        """Returns what the pipeline takes."""
        if self.prompt:
            return {"prompt": self.prompt}
        return self.conditions.model_dump(exclude_none=True)


class Fill(_Request):
    """Bars of a tune anew."""

    kind: Literal["fill"]
    tune: Abc
    first: Bar
    last: Bar

    @model_validator(mode="after")
    def _check_length(self) -> "Fill":
        if not 0 <= self.last - self.first < MOST_BARS_FILLED:
            raise ValueError(f"expected 1 to {MOST_BARS_FILLED} bars, first to last")
        return self

    def for_pipeline(self) -> dict[str, Any]:
        """Returns what the pipeline takes."""
        return {"prompt": self.tune, "fill": (self.first, self.last)}


class Accompany(_Request):
    """Further voices beside those of a tune."""

    kind: Literal["accompany"]
    tune: Abc
    instruments: Instruments

    def for_pipeline(self) -> dict[str, Any]:
        """Returns what the pipeline takes."""
        return {"accompany": self.tune, "instruments": self.instruments}


class Sampling(_Asked):
    """How tokens are drawn; temperature 0: the most probable one."""

    seed: int = Field(ge=0, lt=2**32)
    temperature: float = Field(ge=0, le=2)
    top_p: float = Field(gt=0, le=1)


class Writing(_Asked):
    """A tune to write."""

    request: Annotated[Write | Fill | Accompany, Field(discriminator="kind")]
    sampling: Sampling

    def settings(self) -> dict[str, Any]:
        """Returns the settings of the pipeline."""
        found = {"seed": self.sampling.seed, "max_new_tokens": self.request.most_tokens}
        if isinstance(self.request, Write):
            found["grammar"] = self.request.has_grammar
        if self.sampling.temperature == 0:
            return found | {"do_sample": False}
        return found | {"temperature": self.sampling.temperature, "top_p": self.sampling.top_p}


class Next(_Asked):
    """What may follow the tokens of a text."""

    ids: list[int] = Field(min_length=1, max_length=MOST_IDS)
    temperature: float = Field(gt=0, le=2)
