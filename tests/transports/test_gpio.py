"""Which package drives the header, and the real gpiod package on a controller that lives in this process."""

from __future__ import annotations

import errno
import sys
import types
from typing import Any, ClassVar, Self

import gpiod
import pytest

from gateway.errors import GpioFault
from gateway.transports.gpio import GpiodHeader, RpiGpioHeader, open_header
from gateway.transports.reset_line import GpioResetLine

ACTIVE, INACTIVE = gpiod.line.Value.ACTIVE, gpiod.line.Value.INACTIVE


class _Controllers:
    """What the kernel holds: controllers by path, the lines that are taken, and the levels that stay."""

    labels: ClassVar[dict[str, str]] = {
        "/dev/gpiochip0": "gpio-brcmstb@107d508500",
        "/dev/gpiochip4": "pinctrl-rp1",
        "/dev/gpiochip10": "gpio-brcmstb@107d517c00",
    }

    def __init__(self) -> None:
        self.taken: dict[int, str] = {}
        self.levels: dict[int, Any] = {}
        self.settings: dict[int, gpiod.LineSettings] = {}
        self.path = ""


class _Chip:
    def __init__(self, controllers: _Controllers, path: str) -> None:
        self._controllers, self._path = controllers, path
        if path not in controllers.labels:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def get_info(self) -> Any:
        return types.SimpleNamespace(label=self._controllers.labels[self._path])

    def get_line_info(self, pin: int) -> Any:
        return types.SimpleNamespace(consumer=self._controllers.taken[pin])


class _Request:
    def __init__(self, controllers: _Controllers, pin: int) -> None:
        self._controllers, self._pin = controllers, pin

    def set_value(self, pin: int, value: Any) -> None:
        self._controllers.levels[pin] = value

    def get_value(self, pin: int) -> Any:
        return self._controllers.levels[pin]

    def reconfigure_lines(self, config: dict[int, gpiod.LineSettings]) -> None:
        [(pin, settings)] = config.items()
        self._controllers.settings[pin] = settings
        self._controllers.levels[pin] = settings.output_value

    def release(self) -> None:
        del self._controllers.taken[self._pin]


def package(controllers: _Controllers) -> Any:
    """Return a module with the real enums and settings of gpiod and the controllers of a test."""

    def request_lines(path: str, config: dict[int, gpiod.LineSettings], consumer: str) -> _Request:
        [(pin, settings)] = config.items()
        if pin in controllers.taken:
            raise OSError(errno.EBUSY, "Device or resource busy")
        controllers.path = path
        controllers.taken[pin] = consumer
        controllers.settings[pin] = settings
        is_output = settings.direction is gpiod.line.Direction.OUTPUT
        controllers.levels[pin] = settings.output_value if is_output else ACTIVE
        return _Request(controllers, pin)

    return types.SimpleNamespace(
        Chip=lambda path: _Chip(controllers, path),
        request_lines=request_lines,
        line=gpiod.line,
        LineSettings=gpiod.LineSettings,
    )


@pytest.fixture
def controllers() -> _Controllers:
    return _Controllers()


def _header(controllers: _Controllers) -> GpiodHeader:
    return GpiodHeader(package(controllers), list(controllers.labels))


def test_the_header_s_controller_is_found_by_its_label_whatever_its_number(controllers: _Controllers) -> None:
    header = _header(controllers)
    header.claim_output(17, high=True)
    assert (controllers.path, controllers.levels[17]) == ("/dev/gpiochip4", ACTIVE)
    controllers.labels = {"/dev/gpiochip0": "pinctrl-bcm2711", "/dev/gpiochip1": "raspberrypi-exp-gpio"}
    _header(controllers).claim_output(18, high=False)
    assert (controllers.path, controllers.levels[18]) == ("/dev/gpiochip0", INACTIVE)


def test_a_machine_without_a_header_says_what_it_found(controllers: _Controllers) -> None:
    controllers.labels = {"/dev/gpiochip0": "gpio-mockup"}
    with pytest.raises(GpioFault, match="/dev/gpiochip0 is gpio-mockup"):
        _header(controllers)
    controllers.labels = {}
    with pytest.raises(GpioFault, match="there is none"):
        _header(controllers)


def test_an_output_is_driven_and_claimed_again_without_a_second_request(controllers: _Controllers) -> None:
    header = _header(controllers)
    header.claim_output(17, high=False)
    header.write(17, high=True)
    assert controllers.levels[17] is ACTIVE
    header.claim_output(17, high=False)
    assert controllers.levels[17] is INACTIVE


def test_an_input_is_pulled_up_read_and_given_back(controllers: _Controllers) -> None:
    header = _header(controllers)
    header.claim_input(27)
    assert controllers.settings[27].bias is gpiod.line.Bias.PULL_UP
    assert header.read(27)
    controllers.levels[27] = INACTIVE
    assert not header.read(27)
    header.release_input(27)
    assert controllers.taken == {}


def test_a_pin_that_is_taken_names_its_holder(controllers: _Controllers) -> None:
    controllers.taken[17] = "gpioset"
    with pytest.raises(GpioFault, match="the program 'gpioset' is using it"):
        _header(controllers).claim_output(17, high=False)


def test_a_pin_that_was_never_claimed_is_a_fault(controllers: _Controllers) -> None:
    with pytest.raises(GpioFault, match="GPIO 5 cannot be driven"):
        _header(controllers).write(5, high=True)


class _Pi5Api:
    """RPi.GPIO 0.7.1 on a Pi 5: the import is fine, and every use of a pin is not."""

    BCM = 11

    def setwarnings(self, _on: bool) -> None: ...

    def setmode(self, _mode: int) -> None: ...

    def gpio_function(self, _pin: int) -> int:
        raise RuntimeError("Cannot determine SOC peripheral base address")


def test_where_rpi_gpio_imports_and_does_not_work_gpiod_is_taken(
    controllers: _Controllers, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpi = types.ModuleType("RPi")
    rpi.GPIO = _Pi5Api()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "RPi", rpi)
    monkeypatch.setitem(sys.modules, "RPi.GPIO", rpi.GPIO)
    monkeypatch.setitem(sys.modules, "gpiod", package(controllers))
    assert open_header().name == "gpiod"
    line = GpioResetLine(25)
    line.pulse()
    assert controllers.levels[25] is ACTIVE


@pytest.mark.parametrize(
    "error", [RuntimeError("not a Pi"), FileNotFoundError(".lgd-nfy0"), SystemError(), ImportError()]
)
def test_whatever_importing_raises_the_next_package_is_tried_and_both_are_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class _Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name in {"RPi", "gpiod"}:
                raise error

    for name in ("RPi", "RPi.GPIO", "gpiod"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Finder(), *sys.meta_path])
    with pytest.raises(GpioFault, match=r"RPi\.GPIO: .*; gpiod: .*extra 'pi'.*remove the pins"):
        open_header()


def test_a_package_without_gpio_function_is_taken_at_its_word() -> None:
    api = types.SimpleNamespace(BCM=11, setwarnings=lambda _: None, setmode=lambda _: None)
    assert RpiGpioHeader(api).name == "RPi.GPIO"
