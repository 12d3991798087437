"""`turbospec profiles`: shows and moves measured latency profiles."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbospec.cli import operations

if TYPE_CHECKING:
    from turbospec.cli.profile_places import Place
    from turbospec.sidecar.profiles.comparison import Comparison
    from turbospec.sidecar.profiles.profile import Profile, Summary

_DESCRIPTION = """\
Shows and moves latency profiles: what steps of an engine were measured to take, kept by what determines it
(accelerator, engine, model, draft, parallelism, ...). They are asked of a running controller that has
--profiles-directory, or with --directory read from the files themselves.
"""
_ID_OR_FILE = "a profile's id (see list), or an exported file"


def add_parser(subparsers: Any) -> None:
    """Adds the verb with its actions."""
    parser = subparsers.add_parser(
        "profiles",
        help="list, show, export, import and compare latency profiles",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listed = _action(actions, "list", _list, "what profiles there are")
    shown = _action(actions, "show", _show, "one profile: its key, its age and its step times")
    shown.add_argument("profile", metavar="PROFILE", help=_ID_OR_FILE)
    exported = _action(actions, "export", _export, "write a profile into a file")
    exported.add_argument("profile", metavar="ID", help="the profile's id (see list)")
    exported.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: standard output")
    imported = _action(actions, "import", _import, "keep the profile of a file, in place of one with its key")
    imported.add_argument("file", metavar="FILE", help="an exported file; -: standard input")
    compared = _action(actions, "diff", _diff, "compare two profiles cell by cell")
    compared.add_argument("first", metavar="FIRST", help=_ID_OR_FILE)
    compared.add_argument("second", metavar="SECOND", help=_ID_OR_FILE)
    for action in (listed, shown, compared):
        action.add_argument("--json", action="store_true", help="print JSON")


def _action(actions: Any, name: str, work: Any, purpose: str) -> Any:
    parser = actions.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    place = parser.add_mutually_exclusive_group()
    operations.add_address(place)
    place.add_argument(
        "--directory", metavar="DIR", type=Path, help="this directory of profiles, without a controller"
    )
    operations.add_token_file(parser)
    parser.set_defaults(func=run, work=work, action=name)
    return parser


def run(args: argparse.Namespace) -> int:
    """Does one action. 1: refused, or no controller answers; 2: wrong usage, or an extra is missing."""
    from turbospec.cli.profile_places import RefusedError

    try:
        args.work(args)
    except operations.UsageError as error:
        return _fail(args, 2, str(error))
    except RefusedError as error:
        return _fail(args, 1, str(error))
    except ModuleNotFoundError as error:
        # Tables are for people, who may have JSON where there is only the base install.
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return _fail(args, 2, "tables need the 'sidecar' extra: pip install 'turbospec[sidecar]', or --json")
    return 0


def _list(args: argparse.Namespace) -> None:
    summaries = _place(args).summaries()
    if args.json:
        _print_json([_summary_json(summary) for summary in summaries])
        return
    from turbospec.cli import profile_tables

    profile_tables.show(profile_tables.listing(summaries, datetime.now(UTC)))


def _show(args: argparse.Namespace) -> None:
    from turbospec.sidecar.profiles.document import as_json

    profile = _profile(args, args.profile)
    if args.json:
        _print_json({"profile_id": profile.key.profile_id, **as_json(profile)})
        return
    from turbospec.cli import profile_tables

    profile_tables.show(profile_tables.details(profile, datetime.now(UTC)))


def _export(args: argparse.Namespace) -> None:
    from turbospec.cli.profile_places import STANDARD
    from turbospec.sidecar.profiles.document import dumps

    data = dumps(_place(args).get(_id(args.profile)))
    if args.file == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        Path(args.file).write_bytes(data)
    except OSError as error:
        raise operations.UsageError(f"{args.file}: {error.strerror}") from error


def _import(args: argparse.Namespace) -> None:
    from turbospec.cli.profile_places import read_file

    profile = read_file(args.file)
    replaced = _place(args).put(profile)
    print(f"{profile.key.profile_id}: {'replaced' if replaced else 'new'}, {len(profile.cells)} cells")


def _diff(args: argparse.Namespace) -> None:
    from turbospec.sidecar.profiles.comparison import compare

    compared = compare(_profile(args, args.first), _profile(args, args.second))
    if args.json:
        _print_json(_comparison_json(compared))
        return
    from turbospec.cli import profile_tables

    profile_tables.show(profile_tables.comparison(compared))


def _place(args: argparse.Namespace) -> Place:
    from turbospec.cli.profile_places import Directory, Service

    if args.directory is not None:
        return Directory(args.directory)
    return Service(operations.controller(args))


def _profile(args: argparse.Namespace, name: str) -> Profile:
    """The profile of an id or a file. What is no id is a file: a file named like an id is ./ID."""
    from turbospec.cli.profile_places import read_file
    from turbospec.sidecar.profiles.key import ID

    return _place(args).get(name) if ID.fullmatch(name) else read_file(name)


def _id(text: str) -> str:
    from turbospec.sidecar.profiles.key import ID

    if not ID.fullmatch(text):
        raise operations.UsageError(f"an id has 16 hexadecimal digits, not {text!r}")
    return text


def _summary_json(summary: Summary) -> dict[str, object]:
    return {
        "profile_id": summary.key.profile_id,
        **asdict(summary),
        "measured_at": summary.measured_at.isoformat(),
        "source": summary.source.value,
    }


def _comparison_json(compared: Comparison) -> dict[str, object]:
    first, second = compared.first.key, compared.second.key
    return {
        "first": first.profile_id,
        "second": second.profile_id,
        "key": {name: [getattr(first, name), getattr(second, name)] for name in compared.differing},
        "only_first": compared.only_first,
        "only_second": compared.only_second,
        "median_ratio": compared.median_ratio,
        "common": [
            {
                **cell.coordinates._asdict(),
                "first_seconds": cell.first_seconds,
                "second_seconds": cell.second_seconds,
                "ratio": cell.ratio,
            }
            for cell in compared.common
        ],
    }


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=2))


def _fail(args: argparse.Namespace, status: int, reason: str) -> int:
    print(f"turbospec profiles {args.action}: {reason}", file=sys.stderr)
    return status
