from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import HubSettings, load_hub
from gateway.errors import ConfigError

SITE = '[[site]]\nid = "st-marys"\nsite_key_file = "site.key"\n{more}\n'
HUB = '[hub]\nbroker = "mqtt://127.0.0.1"\n'


def load(tmp_path: Path, mail: str, more: str = "") -> HubSettings:
    path = tmp_path / "hub.toml"
    path.write_text(HUB + mail + SITE.format(more=more))
    settings = load_hub(path)
    settings.file.finish()
    return settings


def test_a_site_with_addresses_of_its_own_is_told_there_and_the_hub_in_general(tmp_path: Path) -> None:
    mail = '[mail]\nsmtp = "smtps://mail.example"\nfrom = "tapgate@a.example"\nto = ["it@a.example"]\n'
    settings = load(tmp_path, mail, 'mail_to = ["head@a.example"]')
    assert settings.mail is not None
    assert (settings.mail.host, settings.mail.port, settings.mail.tls) == ("mail.example", 465, True)
    assert settings.mail_to("st-marys") == ("head@a.example",)
    assert settings.mail_to("") == settings.mail_to("other") == ("it@a.example",)


def test_without_a_mail_section_nobody_is_told(tmp_path: Path) -> None:
    settings = load(tmp_path, "")
    assert settings.mail is None
    assert settings.mail_to("") == ()


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('smtp = "http://mail.example"', "mail.smtp"),
        ('smtp = "smtp://mail.example:99999"', "mail.smtp"),
        ('smtp = "smtp://me:secret@mail.example"', "mail.smtp"),
        ('to = ["nobody"]', "mail.to"),
        ('to = ["a@b.example\\nBcc: c@d.example"]', "mail.to"),
        ('username = "me"', "mail.username"),
        ('host = "x"', "mail.host"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_line_and_never_repeated(
    tmp_path: Path, line: str, place: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f'[mail]\nfrom = "tapgate@a.example"\n{line}\n')
    assert place in str(caught.value)
    assert "secret" not in str(caught.value)
