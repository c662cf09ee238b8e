"""The pages that are made from code: what can be set, stored, called, printed and measured."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import typer
import yaml
from mkdocs.structure.files import File, Files

from fluxforge.cli import app
from fluxforge.config.schema import FluxForgeConfig, StorageConfig
from fluxforge.etl.report import EtlReport
from fluxforge.ingestion.report import IngestReport
from fluxforge.operate import HealthReport, LakeState, RetentionReport
from fluxforge.operate.metrics import METRICS
from fluxforge.sources import get_source, source_names
from fluxforge.sync import SyncReport
from fluxforge.transform.schema import table_schemas
from fluxforge.verify import VerifyReport

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/configuration.md": configuration,
        "reference/tables.md": tables,
        "reference/cli.md": command_line,
        "reference/json.md": json_results,
        "reference/metrics.md": metrics,
    }
    for name, page in pages.items():
        files.append(File.generated(config, name, content=page()))
    return files


def on_post_page(output: str, **_: Any) -> str:
    """Take out what would fetch something when a page is read: renderers of widgets and graphs."""
    foreign = re.compile(r"https?://(unpkg\.com|cdnjs\.cloudflare\.com|cdn\.)")
    scripts = re.compile(r"<script\b.*?</script>", re.DOTALL)
    return scripts.sub(lambda found: "" if foreign.search(found[0]) else found[0], output)


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    text = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in text)


# Configuration


def configuration() -> str:
    said = comments((ROOT / "conf" / "config.yaml").read_text("utf-8"))
    rows = [(f"`{key}`", kind, default, said.get(key, "")) for key, kind, default in keys()]
    return (
        "# Configuration\n\nEvery key, its type and its default. `ingestion.storage`, "
        "`etl.storage_input` and `etl.storage_output` take the keys of `storage`. A source that is "
        "null (`ingestion.sources.coinbase=null`) is left out.\n\n"
        + table(("key", "type", "default", "meaning"), rows)
    )


def keys(kind: Any = FluxForgeConfig, prefix: str = "") -> list[tuple[str, str, str]]:
    found = []
    hints = get_type_hints(kind)
    for field in fields(kind):
        inner, key = hints[field.name], f"{prefix}{field.name}"
        if field.metadata:
            continue
        if is_dataclass(inner) and inner is not None:
            found += keys(inner, f"{key}.")
        elif StorageConfig in getattr(inner, "__args__", ()):
            found.append((key, "settings of a storage", "as `storage`"))
        else:
            made = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]
            if isinstance(made, dict) and any(is_dataclass(one) for one in made.values()):
                (only,) = {type(one) for one in made.values()}
                found += keys(only, f"{key}.<name>.")
                continue
            text = inner.__name__ if isinstance(inner, type) else str(inner)
            text = text.replace(" | None", " or null").replace("typing.", "")
            shown = yaml.safe_dump(made, default_flow_style=True).split("\n")[0]
            found.append((key, f"`{text}`", f"`{shown}`"))
    return found


def comments(text: str) -> dict[str, str]:
    """Return what ``config.yaml`` says of each key, by its full name."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    last = ""
    for line in text.splitlines():
        if match := re.match(r"( *)([\w]+):(?:[^#]|(?<=\S)#)*(?:# *(.*))?$", line):
            indent, name, said = len(match[1]), match[2], match[3]
            path = [*(one for one in path if one[0] < indent), (indent, name)]
            last = ".".join(one for _, one in path)
            last = last.replace("sources.coinbase", "sources.<name>")
            if said:
                found[last] = said
        elif last and (more := re.match(r" +# *(.*)", line)):
            found[last] = f"{found.get(last, '')} {more[1]}".strip()
    return found


# Tables

UNITS = {
    "price": "quote currency", "size": "base currency", "volume": "base currency",
    "best_bid": "quote currency", "best_ask": "quote currency", "best_bid_size": "base currency",
    "best_ask_size": "base currency", "volume_24h": "base currency", "open": "quote currency",
    "high": "quote currency", "low": "quote currency", "close": "quote currency",
    "low_24h": "quote currency", "high_24h": "quote currency", "low_52w": "quote currency",
    "high_52w": "quote currency", "change_24h_percent": "percent",
}  # fmt: skip


def tables() -> str:
    import fluxforge.sources.tables as declared

    said = dict(re.findall(r'"(\w+)": "\w+",  # (.*)', inspect.getsource(declared)))
    text = [
        (
            "# Tables\n\nEvery venue has the same tables with the same columns, in "
            "`processed/<source>/<table>/`. Times are UTC, in microseconds; a missing or "
            "unreadable value is null, never 0.\n"
        )
    ]
    names = dict.fromkeys(name for source in source_names() for name in table_schemas(source))
    for name in names:
        sources = [one for one in source_names() if name in table_schemas(one)]
        schema = table_schemas(sources[0])[name]
        rows = [
            (f"`{one.name}`", f"`{one.type}`", UNITS.get(one.name, ""), said.get(one.name, ""))
            for one in schema
        ]
        channel = get_source(sources[0]).tables.channels.get(name)
        key = (
            f", one row per {', '.join(channel.key)} to readers" if channel and channel.key else ""
        )
        text.append(f"\n## {name}\n\nOf {', '.join(sources)}{key}.\n")
        text.append(table(("column", "type", "unit", "meaning"), rows))
    return "\n".join(text)


# Command line, JSON, metrics


def command_line() -> str:
    text = [
        (
            "# Command line\n\nExit code 0: done; 1: the work found problems; 2: wrong use or "
            "configuration; 130: interrupted before it had finished. What runs until it is stopped "
            "(`ingest`, `run`, `etl --watch`, `exchange`) exits 0 when it is.\n"
        )
    ]
    group: Any = typer.main.get_command(app)
    for name, one in group.commands.items():
        below = getattr(one, "commands", {"": one})
        for part, command in below.items():
            called = f"fluxforge {name} {part}".strip()
            context = typer.Context(command, info_name=called)
            text.append(f"## {called}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(text)


def json_results() -> str:
    text = [
        (
            "# JSON\n\nWith `--json` a command prints one object or list. Keys are always all "
            "there. Times are ISO 8601 in UTC, durations are seconds, and a number that JSON does "
            "not know is null.\n"
        )
    ]
    commands = {
        "ingest": IngestReport, "etl": EtlReport, "verify": VerifyReport, "status": LakeState,
        "health": HealthReport, "retain": RetentionReport, "sync": SyncReport,
    }  # fmt: skip
    for name, report in commands.items():
        doc = inspect.cleandoc(report.__doc__ or "").split("\n\n")[0]
        rows = [
            (f"`{one.name}`", f"`{str(one.type).replace(' | None', ' or null')}`")
            for one in fields(report)
        ]
        text.append(f"## {name}\n\n{doc}\n\n{table(('key', 'type'), rows)}")
    return "\n".join(text)


def metrics() -> str:
    rows = [
        (f"`fluxforge_{name}{'_total' if kind == 'counter' else ''}`", kind, labels, said)
        for name, (kind, labels, said) in METRICS.items()
    ]
    return (
        "# Metrics\n\n`fluxforge run` serves them on `127.0.0.1`, port `run.metrics_port`; "
        "`pip install prometheus-client`.\n\n" + table(("name", "type", "labels", "meaning"), rows)
    )
