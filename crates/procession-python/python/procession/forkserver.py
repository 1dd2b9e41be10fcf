"""The standard library's own: the server that it starts knows the descriptors of its children by its own module's name."""

from procession._standard import share

share(__name__)
