"""What is taken out of a recording before anybody sees it: a table of patterns, each with its pseudonym.

The same secret becomes the same pseudonym throughout one recording, so that what belonged together still does; a
pseudonym stays as it is, so that the recording of a recording is the same. Two kinds of text: a *fact* is what a driver
reads, where a user called `amdgpu` must not change the machine; *prose* is everything else, where names go as well.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from tinybox.core.config import ANY_CERTIFICATE, AlertsConfig, Config

KEY, SECRET = "[key]", "[secret]"
PASSWORD_FILE = "/etc/tinybox/bmc-password"
CERTIFICATE = "/etc/tinybox/bmc.pem"
# journald's own start and stop messages (systemd, sd-messages.h): the same on every machine.
JOURNAL_OWN = "f77379a8490b408bbe5f6940505a777b|d93fb3c9c24d451a97cea615ce59c00b"
# Files whose whole text tells one machine from all others.
SERIAL_FILES = (
    *("serial", "serial_number", "unique_id", "uuid", "wwid", "wwn", "eui", "nguid", "subsysnqn"),
    *("board_serial", "product_serial", "chassis_serial", "board_asset_tag", "chassis_asset_tag", "product_uuid"),
)
LEAST_SERIAL = 5  # a shorter one is also a number of other things; in its own file it goes whatever its length
# Names that tell nothing: the system's, the ones that every box has, and pseudonyms.
PUBLIC_NAME = re.compile(
    r"root|localhost(\.localdomain)?|tinybox|tiny|ubuntu|debian|admin|(user|box)\d*|", re.IGNORECASE
)
PSEUDONYM = re.compile(
    r"\[key\]|\[secret\]|S\d{4,}|nqn\.2000-01\.example:\d+|eui\.0{8}[0-9a-f]{8}|0{8}-(0{4}-){3}[0-9a-f]{12}"
    r"|(0{8}:){3}[0-9a-f]{8}|0{24}[0-9a-f]{8}|02:00(:[0-9a-f]{2}){4}|0200[0-9a-f]{8}"
    r"|192\.0\.2\.\d+|198\.18\.\d+\.\d+|2001:db8::[0-9a-f]+|someone\d*@example"
)


@dataclass(frozen=True, slots=True)
class Known:
    """What is secret because of what it is on this machine, not because of how it looks."""

    hosts: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()

    def merged(self, other: "Known") -> "Known":
        """Both."""
        return Known((*self.hosts, *other.hosts), (*self.users, *other.users), (*self.serials, *other.serials))


@dataclass(frozen=True, slots=True)
class Rule:
    """What looks like this is a secret of that kind; its last group that matched, else all of it, becomes `form(n)`."""

    kind: str
    pattern: re.Pattern[str]
    form: Callable[[int], str]


def _rule(kind: str, pattern: str, form: Callable[[int], str]) -> Rule:
    return Rule(kind, re.compile(pattern, re.IGNORECASE), form)


def _key(_: int) -> str:
    return KEY


def _secret(_: int) -> str:
    return SECRET


def _uuid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012x}"


def _mac(number: int) -> str:
    return "02:00:" + ":".join(f"{number:08x}"[i : i + 2] for i in range(0, 8, 2))


def _ipv4(number: int) -> str:
    """Of the net kept for documents (RFC 5737), then of the one for benchmarks (RFC 2544)."""
    return f"192.0.2.{number}" if number < 255 else f"198.18.{number // 256 % 256}.{number % 256}"


def _serial(number: int) -> str:
    return f"S{number:04d}"


def _counted(word: str) -> Callable[[int], str]:
    return lambda number: word if number == 1 else f"{word}{number}"


ALONE, END = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
CREDENTIAL = r"(?:password|passwd|passphrase|passcode|secret|token|api[_-]?key|psk|credential|cookie|authorization)"
QUOTED_OR_LINE = r"""(?:"((?:\\.|[^"\\\n])*)"|'([^'\n]*)'|([^\n]+))"""
FOLDERS_OF_USERS = r"(?:(?<=home/)|(?<=run/media/))"

KEYS = (
    _rule("key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", _key),
    _rule("key", r"(?:ssh-(?:ed25519|rsa|dss)|ecdsa-sha2-\S+|sk-\S+)\s+AAAA[\w+/=]+(?:[ \t][^\"'\n]*)?", _key),
    _rule("key", r"AAAA[BCE][\w+/=]{30,}", _key),
    _rule("key", rf"{ALONE}(?-i:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abpr]-|AKIA|eyJ)[\w.-]{{16,}}", _key),
)
# What its looks betray in any text. A longer kind comes before what it may contain.
EVERYWHERE = (
    *KEYS,
    _rule("password", r"\$(?:\d|2[aby]|y|gy)\$[^\s:\"']{8,}", _secret),  # crypt(5)
    _rule("password", r"(?<=://)[^\s/@:\"']*:[^\s/@\"']+(?=@)", _secret),
    _rule("UUID", rf"{ALONE}nqn\.[\w.:-]+", lambda n: f"nqn.2000-01.example:{n}"),
    _rule("UUID", rf"{ALONE}eui\.[0-9a-f]{{16,32}}{END}", lambda n: f"eui.{n:016x}"),
    _rule("UUID", rf"{ALONE}[0-9a-f]{{8}}-(?:[0-9a-f]{{4}}-){{3}}[0-9a-f]{{12}}{END}", _uuid),
    _rule("UUID", rf"{ALONE}(?:[0-9a-f]{{8}}:){{3}}[0-9a-f]{{8}}{END}", lambda n: f"{'00000000:' * 3}{n:08x}"),
    _rule("UUID", rf"{ALONE}(?!(?:{JOURNAL_OWN}){END})(?:0x)?[0-9a-f]{{32,}}{END}", lambda n: f"{n:032x}"),
    _rule("UUID", r"UUID=([^\s\"',]+)", _uuid),
    _rule("MAC address", rf"{ALONE}(?:[0-9a-f]{{2}}[:-]){{5,}}[0-9a-f]{{2}}{END}", _mac),
    _rule("MAC address", rf"{ALONE}(?:[0-9a-f]{{4}}\.){{2}}[0-9a-f]{{4}}{END}", _mac),
    _rule("MAC address", rf"(?:en|wl|ww)x([0-9a-f]{{12}}){END}", lambda n: f"0200{n:08x}"),
    _rule("IP address", rf"(?<![A-Za-z0-9.])(?!127\.|255\.|0\.0\.0\.0)(?:\d{{1,3}}\.){{3}}\d{{1,3}}{END}", _ipv4),
    _rule("user name", rf"{FOLDERS_OF_USERS}[^\s/:\"',;)]+", _counted("user")),
)
# What only its surroundings betray, in text that no driver reads.
PROSE = (
    _rule("password", rf"{CREDENTIAL}s?\d*\\?[\"']?(?: for [^\n:=]{{1,40}})?\s*[:=]\s*{QUOTED_OR_LINE}", _secret),
    _rule("password", rf"{CREDENTIAL} is (\S+)", _secret),
    _rule("password", rf"--?{CREDENTIAL}\s+(\S+)", _secret),
    _rule("password", r"(?<=\s)(?-i:-P)\s+(\S+)", _secret),  # ipmitool's
    _rule("password", r"\b(?:bearer|basic)\s+([\w.~+/=-]{16,})", _secret),
    _rule("key", r"SHA256:[\w+/=]{40,}", _key),
    _rule("key", r"(?-i:(?<![\w+/=])(?=[\w+/]*[a-z])(?=[\w+/]*[A-Z])(?=[\w+/]*\d)[A-Za-z0-9+/]{40,}={0,2})", _key),
    _rule("serial", r"\bserial(?:[ _-]?(?:number|num|no\.?))?[\"']?\s*[:=#]\s*[\"']?([\w.-]+)", _serial),
    _rule(
        "login",
        r"[\w.+-]+@(?![\w.-]*\.(?:service|socket|slice|scope|mount|timer|target|path|device)\b)[\w-]+(?:\.[\w-]+)*",
        lambda n: _counted("someone")(n) + "@example",
    ),
)
IPV6 = re.compile(r"(?<![A-Za-z0-9])(?=[0-9a-f]*:[0-9a-f]*:)[0-9a-f:]+(?:(?:\.\d{1,3}){3})?", re.IGNORECASE)
ARRAY_NAME = re.compile(r"(?<=dev/md/)[^\s/]+")  # 'host:name': only the link behind it is a fact


class Redactor:
    """The pseudonyms of one recording. `counts` says how many times each kind was replaced."""

    def __init__(self, known: Known) -> None:
        self.counts: Counter[str] = Counter()
        self._numbers: dict[str, dict[str, int]] = {}
        self._serials = sorted({s for s in known.serials if len(s) >= LEAST_SERIAL}, key=len, reverse=True)
        self._hosts = _names(known.hosts)
        self._users = _names(known.users)
        for kind, names in (("host name", known.hosts), ("user name", known.users)):
            for name in names:
                if not PUBLIC_NAME.fullmatch(name):
                    self._number(kind, name)

    def fact(self, text: str, name: str = "") -> str:
        """What a driver reads of the file `name`, or a path: only what its looks betray is replaced."""
        if name in SERIAL_FILES:
            return self._token("serial", text, _serial)
        text = ARRAY_NAME.sub(lambda match: self._replace_names(match[0]), text)
        for rule in EVERYWHERE:
            text = self._apply(rule, text)
        return IPV6.sub(lambda match: self._ipv6(match[0]), text)

    def prose(self, text: str) -> str:
        """What people and programs wrote: credentials, serials and names as well."""
        for rule in (*KEYS, *PROSE):
            text = self._apply(rule, text)
        for serial in self._serials:
            pattern = re.compile(f"{ALONE}{re.escape(serial)}{END}", re.IGNORECASE)
            text = pattern.sub(lambda match: self._token("serial", match[0], _serial), text)
        return self._replace_names(self.fact(text))

    def document(self, value: Any, key: str = "") -> Any:
        """A JSON value: reasons are prose, all else is facts, keys are as they were."""
        if isinstance(value, Mapping):
            return {name: self.document(inner, name) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.document(inner, key) for inner in value]
        if not isinstance(value, str):
            return value
        return self.prose(value) if key == "reason" else self.fact(value, key)

    def config(self, config: Config) -> Config:
        """Settings that lead to the same readings on the recorded machine."""
        bmc = replace(
            config.bmc,
            host=self._host(config.bmc.host),
            user=self._user(config.bmc.user),
            password_file=PASSWORD_FILE if config.bmc.password_file else "",
            certificate=CERTIFICATE if config.bmc.certificate not in ("", ANY_CERTIFICATE) else config.bmc.certificate,
        )
        return replace(config, bmc=bmc, alerts=AlertsConfig())  # an address is a key, and nothing is read by it

    def argv(self, argv: Sequence[str]) -> tuple[str, ...]:
        """A command line as the redacted settings make it."""
        return (argv[0], *(self._word(argv[0], before, word) for before, word in pairwise(argv)))

    def _word(self, program: str, before: str, word: str) -> str:
        match program, before:
            case "ipmitool", "-H":
                return self._host(word)
            case "ipmitool", "-U":
                return self._user(word)
            case "ipmitool", "-f":
                return PASSWORD_FILE
        return self.fact(word)

    def name(self, text: str) -> str:
        """A short text that an owner chose."""
        return self._replace_names(self.fact(text))

    def _host(self, host: str) -> str:
        plain = self.fact(host)
        is_address = plain != host or re.fullmatch(r"[\d.]+|.*:.*", host) is not None
        return plain if is_address or PUBLIC_NAME.fullmatch(host) else self._token("host name", host, _counted("box"))

    def _user(self, user: str) -> str:
        return user if PUBLIC_NAME.fullmatch(user) else self._token("user name", user, _counted("user"))

    def _apply(self, rule: Rule, text: str) -> str:
        def pseudonym(match: re.Match[str]) -> str:
            group = match.lastindex or 0
            start, end = match.start(group) - match.start(), match.end(group) - match.start()
            return match[0][:start] + self._token(rule.kind, match[group], rule.form) + match[0][end:]

        return rule.pattern.sub(pseudonym, text)

    def _replace_names(self, text: str) -> str:
        if self._hosts is not None:
            text = self._hosts.sub(lambda match: self._token("host name", match[0], _counted("box")), text)
        if self._users is not None:
            text = self._users.sub(lambda match: self._token("user name", match[0], _counted("user")), text)
        return text

    def _ipv6(self, text: str) -> str:
        """The longest beginning that is an address; a colon of the sentence may follow."""
        for end in (len(text), len(text) - 1):
            try:
                address = ipaddress.IPv6Address(text[:end])
            except ValueError:
                continue
            if not address.is_loopback and not address.is_unspecified:
                return self._token("IP address", text[:end], lambda n: f"2001:db8::{n:x}") + text[end:]
        return text

    def _token(self, kind: str, secret: str, form: Callable[[int], str]) -> str:
        if not secret.strip() or PSEUDONYM.fullmatch(secret):
            return secret
        if kind.endswith("name") and PUBLIC_NAME.fullmatch(secret):
            return secret
        self.counts[kind] += 1
        return form(self._number(kind, secret))

    def _number(self, kind: str, secret: str) -> int:
        numbers = self._numbers.setdefault(kind, {})
        return numbers.setdefault(secret.lower().replace("-", ":"), len(numbers) + 1)


def _names(names: Sequence[str]) -> re.Pattern[str] | None:
    """Each of them as a word of its own, the longest first."""
    telling = sorted({name for name in names if not PUBLIC_NAME.fullmatch(name)}, key=lambda n: (-len(n), n))
    if not telling:
        return None
    return re.compile(f"{ALONE}(?:{'|'.join(map(re.escape, telling))}){END}", re.IGNORECASE)
