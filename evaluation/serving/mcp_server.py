"""The tools as an MCP server that speaks over standard input and output.

Source: Model Context Protocol, https://modelcontextprotocol.io, with its Python package `mcp`.
"""

from typing import Any

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from pydantic import ValidationError

from data_prep.storage.explain import first_line

from .answers import first_problem
from .jobs import JobError
from .tools import TOOLS, Desk

NAME = "abc-music"
INSTRUCTIONS = (
    "Writes and edits music as ABC text with a model trained for it. Show the ABC to the user, or "
    "save it; every tool that takes a tune takes the ABC of an earlier answer."
)


def build_server(desk: Desk) -> Server:
    """Returns the server.

    The errors of a call are part of its answer, each in one line, so that the client's model can
    read them and call again.
    """

    async def list_tools(*_: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=name,
                    description=tool.__doc__,
                    input_schema=tool.model_json_schema(),
                    output_schema=tool.answer.model_json_schema(mode="serialization"),
                    annotations=types.ToolAnnotations(
                        read_only_hint=desk.folder is None or "save_as" not in tool.model_fields,
                        destructive_hint=False,
                        open_world_hint=False,
                    ),
                )
                for name, tool in TOOLS.items()
            ]
        )

    async def call_tool(_: Any, call: types.CallToolRequestParams) -> types.CallToolResult:
        if call.name not in TOOLS:
            return _error(f"no tool {call.name!r}; expected one of {', '.join(TOOLS)}")
        try:
            answer = await TOOLS[call.name](**call.arguments or {}).run(desk)
        except ValidationError as error:
            return _error(first_problem(error))
        except (JobError, ValueError, OSError) as error:
            return _error(first_line(error))
        return types.CallToolResult(
            content=[types.TextContent(text=answer.model_dump_json(indent=1))],
            structured_content=answer.model_dump(),
        )

    return Server(NAME, instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)


async def serve(desk: Desk) -> None:
    """Serves one client, until it closes the connection."""
    server = build_server(desk)
    async with stdio_server() as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())


def _error(line: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=line)], is_error=True)
