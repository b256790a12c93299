"""Container names: what is allowed, and one for those that were given none: a mood of the water, and who sails it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Container

from sampan.errors import InvalidArgument

ALLOWED = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(f"/?{ALLOWED}+")
_MAX = 255
_TRIES = 6

_MOODS = (
    "amber", "ardent", "balmy", "blithe", "bold", "brackish", "breezy", "bright", "brisk", "briny", "buoyant", "calm",
    "choppy", "clear", "coastal", "cobalt", "cresting", "crisp", "dauntless", "deep", "drifting", "eager", "ebbing",
    "fair", "fathomless", "flowing", "foaming", "foggy", "free", "gentle", "gleaming", "glassy", "gliding", "golden",
    "hardy", "hazy", "homeward", "indigo", "jaunty", "jolly", "keen", "laden", "leeward", "limpid", "lively", "lucid",
    "lunar", "mellow", "merry", "mighty", "misty", "moonlit", "moored", "nimble", "northern", "outbound", "pacific",
    "patient", "pearly", "placid", "plucky", "quiet", "restless", "rippling", "roaming", "rolling", "salty", "sandy",
    "seaworthy", "serene", "sheltered", "shining", "silver", "sparkling", "spirited", "steady", "still", "stormy",
    "sunny", "surging", "swift", "tidal", "tranquil", "trusty", "twilit", "upstream", "vast", "vivid", "wandering",
    "wavy", "westward", "windward", "windy", "yare",
)
_SAILORS = (
    # who sailed
    "amundsen", "anson", "barbarossa", "baret", "barents", "bering", "blackbeard", "bligh", "bonny", "bougainville",
    "bowditch", "cabot", "cabral", "cartier", "chichester", "columbus", "cook", "dampier", "davis", "diaz", "drake",
    "elcano", "erikson", "fitzroy", "flinders", "franklin", "frobisher", "gama", "grenville", "hanno", "harrison",
    "henry", "hudson", "ibnmajid", "joshua", "kotzebue", "laperouse", "magellan", "massey", "moitessier", "nansen",
    "nelson", "pytheas", "raleigh", "read", "ross", "shackleton", "slocum", "sinbad", "tasman", "tupaia", "vespucci",
    "yermak", "zhenghe", "zhengyi",
    # what they sailed
    "argosy", "barque", "caravel", "catamaran", "clipper", "coracle", "cutter", "dhow", "dinghy", "felucca", "frigate",
    "galleon", "gondola", "junk", "kayak", "ketch", "lugger", "outrigger", "pinnace", "pirogue", "proa", "sampan",
    "schooner", "skiff", "sloop", "tartane", "tjalk", "trireme", "umiak", "wherry", "xebec", "yawl",
    # and where
    "amazon", "amur", "baikal", "chilika", "danube", "ganges", "huangpu", "indus", "ladoga", "lena", "mekong", "niger",
    "nile", "oder", "orinoco", "pearl", "tonlesap", "volga", "yangtze", "zambezi",
)


def check(name: str) -> str:
    """The name without its slash. Raises InvalidArgument."""
    if not _NAME.fullmatch(name) or len(name) > _MAX:
        raise InvalidArgument(f"Invalid container name ({name[:_MAX]}), only {ALLOWED} are allowed")
    return name.removeprefix("/")


def generate(taken: Container[str]) -> str:
    """A name that is not `taken`."""
    for attempt in range(_TRIES):
        name = f"{secrets.choice(_MOODS)}_{secrets.choice(_SAILORS)}"
        if attempt:
            name += str(secrets.randbelow(10))
        if name not in taken:
            return name
    return f"{name}_{secrets.token_hex(6)}"
