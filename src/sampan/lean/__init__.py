"""Stand-ins for what costs more to import than a container costs to start: for programs that live 30 ms."""
