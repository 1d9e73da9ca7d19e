"""Metrics in the Prometheus text format; none of them names a person."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from gateway.hub.fleet.gateways import list_gateways
from gateway.hub.scope import ALL_SITES, Sites
from gateway.hub.store import tables
from gateway.hub.web.queries import count_quarantine
from gateway.hub.web.suspicions import count_suspicions


def render_metrics(connection: Connection, counts: Mapping[str, int], sites: Sites = ALL_SITES) -> str:
    """Render the current metrics; those of gateways and sources for some sites only."""
    lines: list[str] = []

    def head(name: str, kind: str, text: str) -> None:
        lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))

    head("tapgate_hub_messages_total", "counter", "Events this process committed, found again, or quarantined.")
    lines.extend(f'tapgate_hub_messages_total{{outcome="{name}"}} {count}' for name, count in sorted(counts.items()))
    gateways = list_gateways(connection, sites)
    for name, text in (
        ("up", "1 when the gateway reports ready."),
        ("waiting", "Events written at the gateway's last birth that are not here yet."),
        ("watermark", "Last event up to which none are missing."),
        ("roster_version", "Roster generation in force."),
    ):
        head(f"tapgate_gateway_{name}", "gauge", text)
        for item in gateways:
            value = {
                "up": int(item.state == "ready"),
                "waiting": item.waiting,
                "watermark": item.upto,
                "roster_version": item.roster or 0,
            }[name]
            lines.append(f'tapgate_gateway_{name}{{site="{item.site}",gateway="{item.name}"}} {value}')
    head("tapgate_hub_card_suspicions_total", "counter", "Cards that looked like copies, by reader and sign.")
    for site, name, reader, sign, count in count_suspicions(connection):
        if site not in sites:
            continue
        labels = f'site="{site}",gateway="{name}",reader="{_label(reader)}",sign="{sign}"'
        lines.append(f"tapgate_hub_card_suspicions_total{{{labels}}} {count}")
    head("tapgate_hub_quarantine", "gauge", "Pieces in quarantine.")
    lines.append(f"tapgate_hub_quarantine {count_quarantine(connection)}")
    head(
        "tapgate_hub_last_sync_timestamp_seconds",
        "gauge",
        "Time of the last successful sync of each source, Unix seconds.",
    )
    run, source = tables.sync_run, tables.source
    last = (
        select(source.c.site, source.c.name, func.max(run.c.finished_ms).label("at"))
        .join_from(run, source)
        .where(run.c.result.in_(("done", "held")), sites.hold(source.c.site))
        .group_by(source.c.site, source.c.name)
    )
    stem = "tapgate_hub_last_sync_timestamp_seconds"
    lines.extend(
        f'{stem}{{site="{row.site}",source="{row.name}"}} {row.at / 1000:.3f}' for row in connection.execute(last)
    )
    return "\n".join(lines) + "\n"


def _label(value: str) -> str:
    # A reader's name comes from the gateway.
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
