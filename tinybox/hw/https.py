"""The way to a controller's web service: one address, one certificate, no proxy, no redirection."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from tinybox.core.config import ANY_CERTIFICATE, BmcConfig
from tinybox.core.errors import HardwareError

HTTPS_PORT = 443
MOST_BYTES = 4 << 20
# What is kept of an answer: figures and their names. Serial numbers, addresses and the rest never get further.
KEPT = re.compile(
    r"@odata\.id|Members(@odata\.nextLink)?|Id|MemberId|Name|DeviceName|PhysicalContext|Status|State|Health"
    r"|Reading|ReadingCelsius|ReadingUnits|Power|PowerControl|PowerConsumedWatts|PowerSubsystem|PowerSupplies|Metrics"
    r"|PowerInputWatts|InputPowerWatts|InputVoltage|LineInputVoltage|LineInputStatus|EnvironmentMetrics|PowerWatts"
    r"|Thermal|ThermalSubsystem|ThermalMetrics|Temperatures|TemperatureReadingsCelsius|Fans|SpeedPercent|SpeedRPM"
    r"|LogServices|LogEntryType|MaxNumberOfRecords|Entries|Created|SensorType|EntryCode|Message"
)


class HttpsDoor:
    """GET of JSON, and nothing else."""

    def __init__(self, config: BmcConfig) -> None:
        self._config = config
        self._base = f"https://{config.host}:{config.port or HTTPS_PORT}"
        self._opener: Any = None

    def get(self, path: str, timeout_s: float) -> Any:
        """The document, without what nobody reads. Raises HardwareError."""
        import urllib.error
        import urllib.request

        request = urllib.request.Request(self._base + path, headers={"Accept": "application/json"})
        try:
            if self._config.user:
                request.add_header("Authorization", f"Basic {self._credentials()}")
            with self._open(request, timeout_s) as response:
                return kept(json.loads(response.read(MOST_BYTES)))
        except urllib.error.HTTPError as error:
            error.close()
            why = "user or password refused" if error.code in (401, 403) else f"HTTP {error.code}"
            raise HardwareError(f"cannot read {self._base}{path}: {why}") from None
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "reason", None) or error
            raise HardwareError(f"cannot read {self._base}{path}: {reason}") from None

    def _open(self, request: Any, timeout_s: float) -> Any:
        if self._opener is None:
            self._opener = _opener(self._config)
        return self._opener.open(request, timeout=timeout_s)

    def _credentials(self) -> str:
        password = Path(self._config.password_file).read_text().strip() if self._config.password_file else ""
        return base64.b64encode(f"{self._config.user}:{password}".encode()).decode()


def _opener(config: BmcConfig) -> Any:
    import ssl
    import urllib.request

    class Refuse(urllib.request.HTTPRedirectHandler):
        """A controller that sends us elsewhere is not followed."""

        def redirect_request(self, *_: Any) -> None:
            return None

    context = ssl.create_default_context()
    if config.certificate == ANY_CERTIFICATE:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.certificate:
        context = ssl.create_default_context(cafile=config.certificate)
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), Refuse()
    )


def kept(value: Any) -> Any:
    """The same document with the known keys alone."""
    if isinstance(value, dict):
        return {key: kept(one) for key, one in value.items() if KEPT.fullmatch(key)}
    return [kept(one) for one in value] if isinstance(value, list) else value
