"""Command line flags with the rules of Docker's own parser (pflag's, in Go).

Not argparse: Docker's users write `--rm=false`, `-e=A=b`, `--memory-swap -1`, `--label -x`, and options of `run` end at
the image name. argparse has other rules for each of these, and costs 6 ms to import.

`parse` is a pure function of the words; nothing here prints or exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sampan.cli.failure import UsageError
from sampan.cli.units import parse_bytes, parse_decimal, parse_duration

Parse = Callable[[str], object]


class Kind:
    """What an option's value is: the word shown in the help, how it is read, and whether it may come several times."""

    __slots__ = ("many", "parse", "word")

    def __init__(self, word: str, parse: Parse, many: bool = False) -> None:
        self.word = word
        self.parse = parse
        self.many = many


TRUE_WORDS = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE_WORDS = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def _boolean(text: str) -> bool:
    if text in TRUE_WORDS:
        return True
    if text in FALSE_WORDS:
        return False
    raise ValueError(f'"{text}" is neither true nor false')


def _integer(text: str) -> int:
    """Decimal, 0x, 0o, 0b and 0-octal numbers of at most 64 bits, as Go reads them."""
    digits = text.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
    try:
        value = int(text, 8) if octal else int(text, 0)
    except ValueError:
        raise ValueError(f'"{text}" is not a whole number') from None
    if not -(2**63) <= value < 2**63:
        raise ValueError(f'"{text}" is too large')
    return value


def _uint16(text: str) -> int:
    value = _integer(text)
    if not 0 <= value < 65536:
        raise ValueError(f'"{text}" is not between 0 and 65535')
    return value


def _strings(text: str) -> list[str]:
    """A comma-separated list (pflag's StringSlice)."""
    return text.split(",") if text else []


BOOL = Kind("", _boolean)
STRING = Kind("string", str)
INT = Kind("int", _integer)
UINT16 = Kind("uint16", _uint16)
BYTES = Kind("bytes", parse_bytes)
DECIMAL = Kind("decimal", parse_decimal)
DURATION = Kind("duration", parse_duration)
LIST = Kind("list", str, many=True)
STRINGS = Kind("strings", _strings, many=True)


def checked_list(word: str, check: Parse) -> Kind:
    """A repeatable option whose every value passes `check` (which raises ValueError)."""
    return Kind(word, check, many=True)


class Option:
    """One option: `names` as typed, e.g. ("-m", "--memory"); the last one is its key, without the dashes."""

    __slots__ = ("default", "help", "hidden", "key", "kind", "names", "shown_default")

    def __init__(
        self, *names: str, kind: Kind = BOOL, help: str, default: object = None, shown_default: str = "",
        hidden: bool = False,
    ) -> None:
        self.names = names
        self.key = names[-1].removeprefix("--")
        self.kind = kind
        self.help = help
        self.default = default
        self.shown_default = shown_default
        self.hidden = hidden

    @property
    def title(self) -> str:
        """As error messages name it: `-m, --memory`."""
        return ", ".join(self.names)


HELP = Option("--help", help="Print usage")


class Values:
    """What the options were set to. Asking for an option the command does not have is a KeyError: a defect."""

    __slots__ = ("_given", "_options")

    def __init__(self, options: Sequence[Option]) -> None:
        self._options = {option.key: option for option in options}
        self._given: dict[str, object] = {}

    def set(self, option: Option, text: str) -> None:
        """Reads `text` as the option's kind. Raises ValueError with the reason."""
        value = option.kind.parse(text)
        if option.kind.many:
            held = self._given.setdefault(option.key, [])
            assert isinstance(held, list)
            held.extend(value) if isinstance(value, list) else held.append(value)
        else:
            self._given[option.key] = value

    def given(self, key: str) -> bool:
        """Whether the option was on the command line."""
        assert key in self._options, key
        return key in self._given

    def _value(self, key: str) -> object:
        option = self._options[key]
        return self._given.get(key, option.default)

    def text(self, key: str) -> str:
        """A string option; "" when not given and without default."""
        value = self._value(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """An integer, byte size (bytes), duration (nanoseconds) or decimal (billionths); 0 when not given."""
        value = self._value(key)
        return value if isinstance(value, int) else 0

    def on(self, key: str) -> bool:
        """A switch."""
        return bool(self._value(key))

    def texts(self, key: str) -> list[str]:
        """A repeatable string option, in the order given."""
        return [str(value) for value in self.objects(key)]

    def objects(self, key: str) -> list[object]:
        """A repeatable option's values as its kind made them."""
        value = self._value(key)
        return list(value) if isinstance(value, list) else []


class Parsed:
    """The outcome of `parse`."""

    __slots__ = ("arguments", "values", "wants_help")

    def __init__(self, values: Values, arguments: list[str], wants_help: bool) -> None:
        self.values = values
        self.arguments = arguments
        self.wants_help = wants_help


class _Reader:
    """Walks the words once."""

    def __init__(self, options: Sequence[Option], words: Sequence[str]) -> None:
        self.by_name = {name: option for option in (*options, HELP) for name in option.names}
        self.values = Values((*options, HELP))
        self.words = list(words)
        self.position = 0

    def next_value(self, complaint: str) -> str:
        if self.position >= len(self.words):
            raise UsageError(f"flag needs an argument: {complaint}")
        self.position += 1
        return self.words[self.position - 1]

    def store(self, option: Option, text: str) -> None:
        try:
            self.values.set(option, text)
        except ValueError as error:
            raise UsageError(f'invalid argument "{text}" for "{option.title}" flag: {error}') from None

    def long(self, word: str) -> None:
        name, equals, text = word.partition("=")
        option = self.by_name.get(name)
        if option is None or len(name) < 3:
            raise UsageError(f"unknown flag: {name}" if len(name) > 2 else f"bad flag syntax: {word}")
        if not equals:
            text = "true" if option.kind is BOOL else self.next_value(name)
        self.store(option, text)

    def short(self, word: str) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self.by_name.get(f"-{letter}")
            if option is None:
                raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
            if letters.startswith("="):
                return self.store(option, letters[1:])
            if option.kind is BOOL:
                self.store(option, "true")
            else:
                return self.store(option, letters or self.next_value(f"'{letter}' in {word}"))
        return None


def parse(options: Sequence[Option], words: Sequence[str], stop_at_argument: bool = False) -> Parsed:
    """Splits `words` into option values and arguments.

    With `stop_at_argument` everything from the first argument on is taken as it is (`run IMAGE ls -l`). A `-h` that is
    no option of the command means help. Raises UsageError.
    """
    reader = _Reader(options, words)
    arguments: list[str] = []
    while reader.position < len(reader.words):
        word = reader.words[reader.position]
        reader.position += 1
        if word == "--":
            arguments += reader.words[reader.position :]
            break
        if word == "-h" and "-h" not in reader.by_name:
            return Parsed(reader.values, arguments, wants_help=True)
        if word.startswith("--"):
            reader.long(word)
        elif word.startswith("-") and len(word) > 1:
            reader.short(word)
        else:
            arguments.append(word)
            if stop_at_argument:
                arguments += reader.words[reader.position :]
                break
        if reader.values.on("help"):
            return Parsed(reader.values, arguments, wants_help=True)
    return Parsed(reader.values, arguments, wants_help=False)
