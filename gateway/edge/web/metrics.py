"""The gateway's metrics in the Prometheus text format (version 0.0.4); no card or person data, few labels."""

from __future__ import annotations

from gateway.edge.health import GatewayView

_Sample = tuple[str, float]


def render_metrics(view: GatewayView) -> str:
    """Write all figures of one view."""
    families: list[tuple[str, str, str, list[_Sample]]] = [
        ("tapgate_build_info", "gauge", "Version of the software.", [(f'{{version="{view.software}"}}', 1)]),
        (
            "tapgate_taps_total",
            "counter",
            "Taps since the start by decision.",
            [('{decision="granted"}', view.granted), ('{decision="denied"}', view.denied)],
        ),
        (
            "tapgate_reader_up",
            "gauge",
            "Whether the reader answers.",
            [(f'{{reader="{row.name}"}}', row.state in {"ready", "degraded"}) for row in view.readers],
        ),
        (
            "tapgate_reader_errors_total",
            "counter",
            "Errors reported by the reader's driver.",
            [(f'{{reader="{row.name}"}}', row.errors) for row in view.readers],
        ),
        (
            "tapgate_reader_health",
            "gauge",
            "Health of the reader from 0 to 100.",
            [(f'{{reader="{row.name}"}}', row.score) for row in view.readers],
        ),
        ("tapgate_journal_head", "gauge", "Sequence number of the newest event.", [("", view.journal_head)]),
        ("tapgate_journal_waiting", "gauge", "Events that the hub does not have.", [("", view.waiting)]),
        (
            "tapgate_journal_oldest_waiting_seconds",
            "gauge",
            "Age of the oldest of them.",
            [("", view.oldest_seconds or 0)],
        ),
        ("tapgate_journal_bytes", "gauge", "Size of the journal on disk.", [("", view.journal_bytes)]),
        ("tapgate_journal_ok", "gauge", "Whether events can be recorded.", [("", view.journal_state == "ok")]),
        ("tapgate_roster_cards", "gauge", "Cards in the roster in force.", [("", view.roster_cards)]),
        ("tapgate_roster_age_seconds", "gauge", "Age of the roster in force.", [("", view.roster_age_seconds or 0)]),
        ("tapgate_hub_connected", "gauge", "Whether the broker is connected.", [("", view.link == "online")]),
        ("tapgate_clock_synchronised", "gauge", "Whether NTP rules the clock.", [("", view.clock_quality == "ntp")]),
    ]
    if view.disk_free_bytes is not None:
        free = [("", float(view.disk_free_bytes))]
        families.append(("tapgate_disk_free_bytes", "gauge", "Space left for the journal.", free))
    lines = []
    for name, kind, sentence, samples in families:
        lines += [f"# HELP {name} {sentence}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {float(value):g}" for labels, value in samples]
    return "\n".join(lines) + "\n"
