"""A OneRoster CSV package as a source: a zip or a folder, version 1.1 or 1.2.

The manifest says which files are bulk (everything) and which are delta (what changed); without one every file is bulk.
OneRoster has no field for cards: `card_paths` says where they are, in `userIds` or a `metadata.` column.

    kind = "oneroster-csv"
    path = "/srv/mis/oneroster.zip"
    card_paths = ["userIds{type~rfid}.identifier", "metadata.cardNumber"]
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path as FilePath
from typing import Any

from gateway.errors import BadRecord, SourceRefused, SourceUnreachable, TapgateError
from gateway.mis.base import (
    Capabilities,
    CardClaim,
    CheckResult,
    Complete,
    Ended,
    FeedItem,
    FieldSeen,
    Gone,
    Notice,
    PersonFields,
    Record,
    Shape,
    Unreadable,
)
from gateway.mis.cells import EMPTY_WORDS, clean_id, clean_text, plain_number, read_date
from gateway.mis.mapping import is_gone, is_yes, read_role
from gateway.mis.options import CardReader, Options
from gateway.mis.paths import Path, find_values, parse_path
from gateway.mis.summary import failed, summarise
from gateway.mis.table import MAX_EMAIL, MAX_NAME, see_fields
from gateway.mis.text import decode_text

MAX_FILE_BYTES = 256 << 20
MAX_PACKAGE_BYTES = 512 << 20
MAX_FILES = 64
_SHOWN = 5
_USER_IDS = re.compile(r"\{\s*([^:{}]{1,60})\s*:\s*([^{}]{1,120})\s*\}")
_DEFAULT_PATHS = ("userIds{type~rfid}.identifier", "userIds{type~card}.identifier", "userIds{type~mifare}.identifier")
_FIELDS = ("given_name", "family_name", "year", "groups", "email", "birth_date")
# The order in which a person's several roles of 1.2 count: whoever works here is staff.
_ROLE_ORDER = ("staff", "student", "contact")

Table = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class OneRosterCsv:
    """One package."""

    path: FilePath
    paths: Sequence[Path]
    cards: CardReader
    capabilities: Capabilities

    def check(self) -> CheckResult:
        """Read the package and report what a sync would find."""
        try:
            items = list(self.fetch((), {}))
            header = self._read("users")[0]
        except TapgateError as error:
            return failed(error)
        detail, warnings = summarise(items)
        people = (item for item in items if isinstance(item, Record))
        sample = tuple(
            {
                "id": person.person_key,
                "role": person.role,
                "name": person.fields.name,
                "card": ", ".join(f"...{claim.tail}" for claim in person.cards or ()),
            }
            for person in islice(people, _SHOWN)
        )
        return CheckResult(None, detail, tuple(warnings), tuple(header), {}, sample)

    def fetch(self, lists: Collection[str], cursors: Mapping[str, str]) -> Iterator[FeedItem]:
        """Read the users with their classes, roles and birth dates."""
        del lists, cursors
        modes = self._modes()
        header, users, faults = self._read("users")
        if "sourcedId" not in header:
            raise SourceRefused("column_missing", f"The users.csv of {self.path.name} has no column 'sourcedId'.")
        classes, roles, births = self._classes(modes), self._roles(modes), self._births(modes)
        yield Shape(dict.fromkeys((*_FIELDS, "card"), "users.csv"))
        yield from faults
        unknown = 0
        for number, user in enumerate(users, 2):
            item, is_unknown = self._person(f"users.csv line {number}", user, classes, roles, births)
            unknown += is_unknown
            yield from item
        if unknown:
            yield Notice(f"{unknown} users have a role that is not known here; they were left out.")
        count = len(users) + len(faults)
        yield Ended() if modes.get("users") == "delta" else Complete(count)

    def discover(self) -> Iterator[FieldSeen]:
        """Return the columns of users.csv, and each kind of user id as the path that `card_paths` takes."""
        header, users, _ = self._read("users")
        kinds = sorted({kind for user in users for kind, _ in _USER_IDS.findall(user.get("userIds", ""))})
        paths = [parse_path(f"userIds{{type~{kind}}}.identifier") for kind in kinds]
        names = [name for name in header if name != "userIds"]
        names += [f"userIds{{type~{kind}}}.identifier" for kind in kinds]
        rows = []
        for number, user in enumerate(users, 2):
            cells = [user.get(name, "") for name in header if name != "userIds"]
            cells += [next(iter(find_values(_as_object(user), [path], "")), "") for path in paths]
            rows.append((f"line {number}", cells))
        yield from see_fields(names, rows, "people", self.cards)

    def _person(
        self,
        place: str,
        user: dict[str, str],
        classes: Mapping[str, set[str]],
        roles: Mapping[str, str],
        births: Mapping[str, str],
    ) -> tuple[list[FeedItem], bool]:
        def cell(*names: str) -> str:
            return next((text for name in names if (text := clean_text(user.get(name, ""), EMPTY_WORDS))), "")

        sourced_id = clean_id(user.get("sourcedId", ""), EMPTY_WORDS)
        person_key = clean_id(user.get("identifier", ""), EMPTY_WORDS) or sourced_id
        if not sourced_id:
            return [Unreadable(place, "This row has no sourcedId.")], False
        role = roles.get(sourced_id) or read_role(cell("role"), "student")
        if role is None:
            return [Unreadable(place, "The role in this row is not known here.", person_key)], True
        if is_gone(cell("status")):
            return [Gone(role, person_key, place, "deleted", sourced_id)], False
        if is_yes(cell("enabledUser")) is False:
            return [Gone(role, person_key, place, "disabled", sourced_id)], False
        given, family = cell("preferredGivenName", "givenName"), cell("preferredFamilyName", "familyName")
        if not (given or family) or max(len(given), len(family)) > MAX_NAME:
            return [Unreadable(place, "This row has no name that can be used.", person_key)], False
        items: list[FeedItem] = []
        cards: tuple[CardClaim, ...] | None = None
        try:
            cards = self._claims(user, role)
        except BadRecord as error:
            items.append(Unreadable(place, f"The card in this row cannot be used: {error}", person_key))
        fields = PersonFields(
            role,
            given,
            family,
            tuple(sorted(classes.get(sourced_id, ()))),
            year=cell("grades").partition(",")[0] or None,
            birth_date=read_date(births.get(sourced_id, "")),
            email=cell("email").casefold()[:MAX_EMAIL] or None,
        )
        return [*items, Record(person_key, fields, cards, place, sourced_id)], False

    def _claims(self, user: dict[str, str], role: str) -> tuple[CardClaim, ...]:
        texts = find_values(_as_object(user), self.paths, role)
        claims = {claim.key: claim for text in texts for claim in [self.cards.claim(plain_number(text))]}
        return tuple(claims[key] for key in sorted(claims))

    def _modes(self) -> dict[str, str]:
        """Return bulk, delta or absent for each file that the manifest names."""
        try:
            _, rows, _ = self._read("manifest")
        except SourceRefused as error:
            if error.failure == "object_missing":
                return {}
            raise
        properties = {row.get("propertyName", ""): row.get("value", "").strip().casefold() for row in rows}
        return {name.removeprefix("file."): mode for name, mode in properties.items() if name.startswith("file.")}

    def _optional(self, name: str, modes: Mapping[str, str]) -> Table:
        """Read a file that need not be there, unless the manifest promises it."""
        if modes.get(name) == "absent":
            return []
        try:
            return self._read(name)[1]
        except SourceRefused as error:
            if error.failure == "object_missing" and name not in modes:
                return []
            raise

    def _classes(self, modes: Mapping[str, str]) -> dict[str, set[str]]:
        titles = {
            row.get("sourcedId", ""): clean_text(row.get("title", ""), ()) for row in self._optional("classes", modes)
        }
        found: dict[str, set[str]] = defaultdict(set)
        for row in self._optional("enrollments", modes):
            title = titles.get(row.get("classSourcedId", ""))
            if title and not is_gone(row.get("status", "")):
                found[clean_id(row.get("userSourcedId", ""), EMPTY_WORDS)].add(title)
        return found

    def _roles(self, modes: Mapping[str, str]) -> dict[str, str]:
        """Return the roles of 1.2, where users have none of their own."""
        found: dict[str, set[str]] = defaultdict(set)
        for row in self._optional("roles", modes):
            role = read_role(row.get("role", ""), "")
            if role and not is_gone(row.get("status", "")):
                found[clean_id(row.get("userSourcedId", ""), EMPTY_WORDS)].add(role)
        return {ref: next(role for role in (*_ROLE_ORDER, *some) if role in some) for ref, some in found.items()}

    def _births(self, modes: Mapping[str, str]) -> dict[str, str]:
        rows = self._optional("demographics", modes)
        return {clean_id(row.get("sourcedId", ""), EMPTY_WORDS): row.get("birthDate", "") for row in rows}

    def _read(self, name: str) -> tuple[list[str], Table, list[Unreadable]]:
        raw = self._bytes(f"{name}.csv")
        text, _ = decode_text(raw, f"{name}.csv")
        last = text.rpartition("\n")[2]
        if last and last.count(",") < text.partition("\n")[0].count(","):
            raise SourceRefused("short", f"The {name}.csv of {self.path.name} ends inside its last line.")
        reader = csv.reader(io.StringIO(text, newline=""))
        table: Table = []
        faults: list[Unreadable] = []
        header: list[str] = []
        try:
            header = [heading.strip() for heading in next(reader, [])]
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
                    why = f"This row has {len(row)} columns, the header has {len(header)}."
                    faults.append(Unreadable(f"{name}.csv line {reader.line_num}", why))
                    continue
                table.append(dict(zip(header, row, strict=False)))
        except csv.Error as error:
            faults.append(Unreadable(f"{name}.csv line {reader.line_num}", f"The rest is not CSV ({error})."))
        if not header:
            raise SourceRefused("empty", f"The {name}.csv of {self.path.name} is empty.")
        return header, table, faults

    def _bytes(self, name: str) -> bytes:
        try:
            if self.path.is_dir():
                file = self.path / name
                if file.stat().st_size > MAX_FILE_BYTES:
                    raise self._too_large(name)
                return file.read_bytes()
            with zipfile.ZipFile(self.path) as package:
                return self._unpack(package, name)
        except (FileNotFoundError, KeyError):
            raise SourceRefused(
                "object_missing", f"There is no {name} in {self.path}; check path and export."
            ) from None
        except PermissionError:
            raise SourceRefused("refused", f"The package {self.path} may not be read; check its owner.") from None
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise SourceRefused("format", f"{self.path.name} is no whole zip file ({type(error).__name__}).") from None
        except OSError as error:
            raise SourceUnreachable(f"The package {self.path} cannot be read ({error.strerror}).") from None

    def _unpack(self, package: zipfile.ZipFile, name: str) -> bytes:
        members = package.infolist()
        if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_PACKAGE_BYTES:
            raise self._too_large(self.path.name)
        for member in members:
            if member.filename.startswith(("/", "\\")) or ".." in member.filename.replace("\\", "/").split("/"):
                raise SourceRefused("format", f"{self.path.name} holds a path that leads outside; it is not read.")
            if member.flag_bits & 1:
                raise SourceRefused("format", f"{self.path.name} is encrypted; export it without a password.")
        member = package.getinfo(name)
        if member.file_size > MAX_FILE_BYTES:
            raise self._too_large(name)
        with package.open(member) as file:
            # The directory of a zip may lie about a size.
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise self._too_large(name)
        return raw

    def _too_large(self, name: str) -> SourceRefused:
        return SourceRefused("too_large", f"{name} in {self.path.name} is larger than this source may be.")


def _as_object(user: Mapping[str, str]) -> dict[str, Any]:
    """Return a row as the object that OneRoster's other form has, for paths."""
    found: dict[str, Any] = dict(user)
    found["userIds"] = [
        {"type": kind.strip(), "identifier": number.strip()}
        for kind, number in _USER_IDS.findall(user.get("userIds", ""))
    ]
    found["metadata"] = {
        name.removeprefix("metadata."): value for name, value in user.items() if name.startswith("metadata.")
    }
    return found


def build(options: Options) -> OneRosterCsv:
    """Read the settings of a package; see the head of this file."""
    paths = []
    for words in options.texts("card_paths") or _DEFAULT_PATHS:
        try:
            paths.append(parse_path(words))
        except ValueError as error:
            options.problem("card_paths", f"{words!r} {error}")
    path = options.text("path")
    return OneRosterCsv(options.base / path, paths, options.encoding(), options.capabilities())
