"""E-mail addresses of a read: each is one person's or nobody's, and whoever has none is never mailed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.hub.mail import outbox
from gateway.hub.store.engine import Store
from gateway.hub.sync.emails import dummy_address, is_address, settle_emails
from gateway.mis.base import PersonFields, Record

MINE = "a.khan@school.example"


def row(key: str, email: str | None, role: str = "staff", name: str = "Aisha Khan") -> Record:
    given_name, _, family_name = name.partition(" ")
    return Record(key, PersonFields(role, given_name, family_name, email=email), None, f"line {key}")


def settle(*rows: Record, pupils: bool | None = True) -> tuple[dict[str, str | None], list[str]]:
    settled, conflicts = settle_emails({(item.role, item.person_key): item for item in rows}, pupils=pupils)
    emails = {f"{item.role[:2]}{item.person_key}": item.fields.email for item in settled.values()}
    return emails, [f"{item.kind} {item.person_key}" for item in conflicts]


def test_a_real_address_of_one_person_stays() -> None:
    assert settle(row("1", MINE), row("2", None)) == ({"st1": MINE, "st2": None}, [])


def test_one_address_of_two_people_is_nobodys_and_both_are_told() -> None:
    emails, conflicts = settle(row("1", MINE), row("2", MINE, name="Bilal Khan"))
    assert set(emails.values()) == {""}
    assert conflicts == ["email_shared 1", "email_shared 2"]


def test_what_is_no_address_is_left_out_and_told() -> None:
    for wrong in ("a.khan", "a khan@x.example", "@x.example", "a@x", "a@b@c.example", "x" * 300, "p-1@s.invalid"):
        assert settle(row("1", wrong)) == ({"st1": ""}, ["email_bad 1"]), wrong


def test_addresses_of_pupils_come_in_where_the_school_wants_them_only() -> None:
    pupil = row("1", MINE, "student")
    assert settle(pupil, pupils=False) == ({"st1": ""}, []), "what came in before goes"
    assert settle(pupil, pupils=None) == ({"st1": None}, []), "what came in before stays, nothing new comes"
    assert settle(pupil) == ({"st1": MINE}, [])
    assert settle(row("1", "nonsense", "student"), pupils=False)[1] == [], "what is not wanted is no trouble either"


def test_a_member_of_staff_who_is_a_parent_and_a_parent_of_two_keep_their_address() -> None:
    both = settle(row("1", MINE), row("9", MINE, "contact"))
    assert both == ({"st1": MINE, "co9": MINE}, [])
    twice = settle(row("8", MINE, "contact"), row("9", MINE, "contact", "Aïsha KHAN"))
    assert twice == ({"co8": MINE, "co9": MINE}, [])
    assert settle(row("1", MINE), row("2", MINE))[1] == ["email_shared 1", "email_shared 2"], "two of staff are two"
    assert settle(row("1", MINE, "student"), row("9", MINE, "contact"))[1] != [], "a child and its parent are two"


@given(
    st.lists(
        st.tuples(st.sampled_from(["a@x.example", "b@x.example", "bad", None]), st.sampled_from("PQRS")), max_size=12
    )
)
def test_no_two_people_ever_keep_one_address_and_the_order_of_the_rows_does_not_matter(
    drawn: list[tuple[str | None, str]],
) -> None:
    rows = [row(str(number), email, name=f"{name} X") for number, (email, name) in enumerate(drawn)]
    emails, conflicts = settle(*rows)
    kept = [email for email in emails.values() if email]
    assert len(kept) == len(set(kept))
    again, other = settle(*reversed(rows))
    assert (again, sorted(other)) == (emails, sorted(conflicts))


def test_the_address_of_somebody_without_one_is_stable_and_never_mailed(store: Store) -> None:
    address = dummy_address("p_0123456789abcdef", "St-Marys")
    assert address == "p-0123456789abcdef@st-marys.invalid"
    assert not is_address(address)
    with store.write() as connection:
        sent = outbox.post(connection, "held", {}, [address, "it@school.example"], "key", 1)
    assert sent == 1
