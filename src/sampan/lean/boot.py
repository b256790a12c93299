"""How a pack begins: the interpreter runs it as any .pyc, and does these lines. pack.py has the form of the rest."""

import gc
import marshal
import posix
import sys

gc.disable()  # nothing lives long enough here to be collected
_fd = posix.open(__file__, posix.O_RDONLY | posix.O_CLOEXEC)
_header = posix.read(_fd, 16)
_begin, _length = int.from_bytes(_header[8:12], "little"), int.from_bytes(_header[12:], "little")
_code, _contents = marshal.loads(posix.pread(_fd, _length, _begin))  # allowed: as any .pyc
_module = sys.modules["sampan.lean.pack"] = type(sys)("sampan.lean.pack")
exec(_code, _module.__dict__)  # allowed: what importing is
_module.start(_fd, _begin + _length, _contents)
