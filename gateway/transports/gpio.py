"""The pins of a Raspberry Pi's header, by BCM number, behind one interface.

RPi.GPIO comes first, where it works: on models up to the Pi 4. Elsewhere, and where the process may not see the board,
the kernel's character device through the package gpiod: the header's controller is found by its label, because its
number depends on model and kernel, and its line offsets are the BCM numbers.

Only pins that were claimed here are ever touched. A claimed output is never given back: on Raspberry Pi OS a pin stays
as it was driven when its process ends (RPi.GPIO writes registers; the kernel keeps released outputs, raspberrypi/linux
#6117 and #6150, unless `dtparam=strict_gpiod` is in config.txt). The door guard relies on that.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from gateway.errors import GpioFault

# Pi 5; Pi 4; the models before. Sources: the drivers pinctrl-rp1 and pinctrl-bcm2835 of the Raspberry Pi kernel.
HEADER_LABELS = ("pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835")
_CONSUMER = "tapgate"
_PATHS = tuple(f"/dev/gpiochip{number}" for number in range(32))


class Header(Protocol):
    """The header of this machine; every method raises GpioFault when the pin cannot be used.

    Attributes:
        name: of the package that drives it.
    """

    name: str

    def claim_output(self, pin: int, *, high: bool) -> None:
        """Make a pin an output that has this level from its first moment on."""
        ...

    def write(self, pin: int, *, high: bool) -> None:
        """Drive a claimed output."""
        ...

    def claim_input(self, pin: int) -> None:
        """Make a pin an input, pulled up, so that a cut wire reads as high."""
        ...

    def read(self, pin: int) -> bool:
        """Return whether a claimed input is high."""
        ...

    def release_input(self, pin: int) -> None:
        """Release a claimed input."""
        ...


def open_header() -> Header:
    """Open the header by the first package that works here; no pin changes.

    Raises:
        GpioFault: none works; the text names each and why.
    """
    reasons = []
    for name, make in _PACKAGES:
        try:
            return make()
        except Exception as error:  # noqa: BLE001  # importing and probing run other people's code on any board
            reasons.append(f"{name}: {_why(error)}")
    raise GpioFault(
        f"GPIO does not work here ({'; '.join(reasons)}); install the extra 'pi' on a Raspberry Pi and let the user "
        "into group gpio, or remove the pins."
    )


@contextlib.contextmanager
def _faults(what: str) -> Iterator[None]:
    # RPi.GPIO raises RuntimeError and ValueError, rpi-lgpio lgpio.error, gpiod OSError: each means this pin.
    try:
        yield
    except GpioFault:
        raise
    except Exception as error:  # noqa: BLE001  # see above
        raise GpioFault(f"{what} ({_why(error)}).") from None


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


class RpiGpioHeader:
    """The header through the RPi.GPIO API; rpi-lgpio has the same names and serves as well."""

    name = "RPi.GPIO"

    def __init__(self, api: Any) -> None:
        self._api = api
        api.setwarnings(False)
        api.setmode(api.BCM)
        probe = getattr(api, "gpio_function", None)
        if probe is not None:
            # The import succeeds on boards that the package cannot drive, a Pi 5 for one; only this opens the pins.
            probe(4)

    def claim_output(self, pin: int, *, high: bool) -> None:
        with _faults(f"GPIO {pin} cannot be an output"):
            self._api.setup(pin, self._api.OUT, initial=self._api.HIGH if high else self._api.LOW)

    def write(self, pin: int, *, high: bool) -> None:
        with _faults(f"GPIO {pin} cannot be driven"):
            self._api.output(pin, self._api.HIGH if high else self._api.LOW)

    def claim_input(self, pin: int) -> None:
        with _faults(f"GPIO {pin} cannot be an input"):
            self._api.setup(pin, self._api.IN, pull_up_down=self._api.PUD_UP)

    def read(self, pin: int) -> bool:
        with _faults(f"GPIO {pin} cannot be read"):
            return bool(self._api.input(pin))

    def release_input(self, pin: int) -> None:
        with _faults(f"GPIO {pin} cannot be given back"):
            self._api.cleanup(pin)


class GpiodHeader:
    """The header through libgpiod's own Python package; each pin is a request of its own.

    Args:
        gpiod: the package.
        paths: of the controllers to look at.
    """

    name = "gpiod"

    def __init__(self, gpiod: Any, paths: Sequence[str] = _PATHS) -> None:
        self._gpiod = gpiod
        self._path = self._find(paths)
        self._requests: dict[int, Any] = {}

    def _find(self, paths: Sequence[str]) -> str:
        found: dict[str, str] = {}
        refusals = []
        for path in paths:
            try:
                with self._gpiod.Chip(path) as chip:
                    found.setdefault(chip.get_info().label, path)
            except FileNotFoundError:
                continue
            except OSError as error:
                refusals.append(f"{path}: {error.strerror}")
        for label in HEADER_LABELS:
            if label in found:
                return found[label]
        chips = ", ".join([*(f"{path} is {label}" for label, path in found.items()), *refusals]) or "there is none"
        raise GpioFault(f"no /dev/gpiochip is a Raspberry Pi's header: {chips}")

    def claim_output(self, pin: int, *, high: bool) -> None:
        line = self._gpiod.line
        settings = self._gpiod.LineSettings(direction=line.Direction.OUTPUT, output_value=self._value(high=high))
        self._claim(pin, settings, f"GPIO {pin} cannot be an output")

    def write(self, pin: int, *, high: bool) -> None:
        with _faults(f"GPIO {pin} cannot be driven"):
            self._requests[pin].set_value(pin, self._value(high=high))

    def claim_input(self, pin: int) -> None:
        line = self._gpiod.line
        settings = self._gpiod.LineSettings(direction=line.Direction.INPUT, bias=line.Bias.PULL_UP)
        self._claim(pin, settings, f"GPIO {pin} cannot be an input")

    def read(self, pin: int) -> bool:
        with _faults(f"GPIO {pin} cannot be read"):
            return bool(self._requests[pin].get_value(pin) is self._gpiod.line.Value.ACTIVE)

    def release_input(self, pin: int) -> None:
        with _faults(f"GPIO {pin} cannot be given back"):
            self._requests.pop(pin).release()

    def _claim(self, pin: int, settings: Any, what: str) -> None:
        with _faults(what):
            if pin in self._requests:
                self._requests[pin].reconfigure_lines({pin: settings})
                return
            try:
                self._requests[pin] = self._gpiod.request_lines(self._path, config={pin: settings}, consumer=_CONSUMER)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                raise GpioFault(
                    f"{what}: {self._holder(pin)} is using it; stop that program, or use another pin."
                ) from None

    def _holder(self, pin: int) -> str:
        try:
            with self._gpiod.Chip(self._path) as chip:
                return f"the program {chip.get_line_info(pin).consumer!r}"
        except OSError:
            return "another program"

    def _value(self, *, high: bool) -> Any:
        return self._gpiod.line.Value.ACTIVE if high else self._gpiod.line.Value.INACTIVE


def _open_rpi_gpio() -> Header:
    from RPi import GPIO  # noqa: PLC0415  # importing touches the hardware; only who has pins may do it

    return RpiGpioHeader(GPIO)


def _open_gpiod() -> Header:
    import gpiod  # noqa: PLC0415  # needed on boards without RPi.GPIO only

    return GpiodHeader(gpiod)


_PACKAGES: tuple[tuple[str, Callable[[], Header]], ...] = (("RPi.GPIO", _open_rpi_gpio), ("gpiod", _open_gpiod))
