"""What the tools of the MCP server answer, and what is wrong with what they are asked."""

from pydantic import BaseModel, Field, ValidationError


class Tune(BaseModel):
    """A tune."""

    abc: str = Field(description="The tune as ABC text, for any program; other tools take it too")
    n_bars: int = Field(description="Number of bars")
    n_voices: int = Field(description="Number of voices")
    seconds: float = Field(description="How long it plays")
    seed: int | None = Field(description="The same seed and arguments give the same tune again")
    remarks: list[str] = Field(description="What was left out or read otherwise than written")
    midi_base64: str | None = Field(description="A MIDI file in base64, if with_midi is true")
    files: list[str] = Field(description="Files that were written, if save_as is given")


class Check(BaseModel):
    """What is wrong with a text."""

    is_valid: bool = Field(description="Whether the other tools take it")
    problems: list[str] = Field(
        description="Why they do not: where it breaks, which bars are wrong"
    )
    warnings: list[str] = Field(
        description="What they read otherwise than written or leave out, and bars of odd length"
    )
    readers: dict[str, bool | None] | None = Field(
        description="Which other programs take it; null for those that could not be asked"
    )
    complaints: list[str] = Field(description="What these programs say")


def first_problem(error: ValidationError) -> str:
    """Returns the first of the arguments that do not fit, in one line, without their values."""
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, problem["loc"]))
    return f"{where}: {problem['msg']}" if where else problem["msg"]
