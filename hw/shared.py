"""Emit a distinct module once: components that become an ``Instance`` of one module when Verilog is written.

Amaranth names modules by their hierarchical path and de-duplicates nothing, so a 64x64 array of PE submodules costs
4096 conversions.  :func:`shared` stands where a submodule is made::

    from hw.shared import shared

    def elaborate(self, platform):
        m = Module()
        for column in range(self.cols):
            pe = shared(platform, PE, self.config, keep=True)          # not PE(...): the call is deferred
            m.submodules[f"pe{column}"] = pe
            m.d.comb += pe.clear.eq(self.clear)                        # ports as usual; connect() works too

In Amaranth's simulator (``platform=None``) and on any platform but :class:`Emitter` the result *is* the component.
Under an :class:`Emitter` it is an object with the component's signature and ports that elaborates to an ``Instance``;
the component itself is built and converted the first time its (class, arguments) are met.

Rules for shared components:

* Constructor arguments are hashable and are the whole configuration.
* ``module_name`` (attribute or property, default ``rowcast_<class name in snake case>``) is the Verilog module's name;
  two configurations must not give the same one.
* Only clock domain ``sync``; its clock and reset are passed through, and ``DomainRenamer`` around the instance works
  (to reset a part of the design, give that part its own domain).  ``ResetInserter`` and ``EnableInserter`` around it
  are lost, because they rewrite statements and an instance has none: use explicit ports.
* Plain attributes (numbers, strings, layouts) of the component can be read through the instance, signals that are no
  ports cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Elaboratable, Fragment, Instance, ResetSignal, Value, ValueCastable
from amaranth.lib import memory, wiring

from hw.ram import Ram

__all__ = ["Emitter", "ShareError", "shared"]

C = TypeVar("C", bound=wiring.Component)

_PORT = re.compile(r"^  wire width (\d+) (?:input|output) \d+ +(?:signed +)?\\(\S+)$", re.MULTILINE)


class ShareError(ValueError):
    """A component that cannot be shared; the message names it and the rule it breaks."""


@dataclass(frozen=True)
class SharedModule:
    """A converted module.

    Attributes
    ----------
    name
        Module name.
    component
        The component it was made from (its ports are not part of any design).
    text
        RTLIL of the module and its private submodules.
    ports
        Port name to width in bits, zero-width ports and those of unused domains left out.
    """

    name: str
    component: wiring.Component
    text: str
    ports: dict[str, int]


def module_ports(text: str, name: str) -> dict[str, int]:
    """Return port name to width of module `name` in RTLIL `text`."""
    start = re.search(rf"^module \\{re.escape(name)}$", text, re.MULTILINE)
    if start is None:
        raise ShareError(f"module {name} is empty: an instance of it would be a black box")
    body = text[start.end() : text.index("\nend\n", start.end())]
    return {port: int(width) for width, port in _PORT.findall(body) if int(width)}


def convert(component: wiring.Component, name: str, platform: object) -> str:
    """Elaborate a component and return RTLIL whose first module is `name` and whose ports are the component's.

    Ports are named by their path in the signature, joined by ``__``.  ``emit_src=False`` keeps source paths out.
    """
    return str(rtlil.convert(component, name, platform, emit_src=False))


class Emitter:
    """The platform under which shared components are converted once.

    Parameters
    ----------
    share
        False turns sharing off: every use is a submodule of its own (for comparison).

    Attributes
    ----------
    modules : dict
        (class, arguments) to :class:`SharedModule`, in order of completion: a module stands after those it uses.
    rams : dict
        Names and geometries of the memories that became :class:`hw.ram.Ram` modules.
    """

    def __init__(self, *, share: bool = True) -> None:
        self.share = share
        self.modules: dict[tuple[Any, ...], SharedModule] = {}
        self.rams: dict[str, Ram] = {}
        self._names: set[str] = set()

    def get_memory(self, mem: memory.Memory) -> Fragment:
        """Return what stands for a memory (called by ``Memory.elaborate``)."""
        ram = Ram.of(mem)
        if ram is None:
            return memory.Memory.elaborate(mem, None)
        self.rams[ram.name] = ram
        return ram.instance(mem)

    def module(
        self, factory: Callable[..., wiring.Component], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> SharedModule:
        """Return the module of ``factory(*args, **kwargs)``, converting it at the first call.

        Raises
        ------
        ShareError
            If an argument is not hashable, the module's name is taken, or it uses a domain other than ``sync``.
        """
        key = (factory, args, tuple(sorted(kwargs.items())))
        try:
            if (found := self.modules.get(key)) is not None:
                return found
        except TypeError as error:
            raise ShareError(f"{factory.__name__}: constructor arguments must be hashable ({error})") from None
        component = factory(*args, **kwargs)
        name = getattr(component, "module_name", None) or _default_name(type(component))
        text = convert(component, name, self)
        if name in self._names:
            raise ShareError(
                f"{factory.__name__}: another configuration is already module {name}; "
                f"give the class a module_name that tells them apart"
            )
        self._names.add(name)
        ports = module_ports(text, name)
        own = {
            "__".join(map(str, path)): len(Value.cast(value))
            for path, _, value in component.signature.flatten(component)
        }
        if lost := sorted(port for port, width in own.items() if width and ports.get(port) != width):
            raise ShareError(f"module {name} lacks port(s) {', '.join(lost)} of its signature")
        if foreign := sorted(set(ports) - set(own) - {"clk", "rst"}):
            raise ShareError(
                f"module {name} has ports outside its signature ({', '.join(foreign)}): only domain sync is passed on"
            )
        module = SharedModule(name, component, text, ports)
        self.modules[key] = module
        return module


class SharedInstance(wiring.PureInterface, Elaboratable):
    """Stands for a shared component under an :class:`Emitter`: its ports, and an ``Instance`` when elaborated."""

    def __init__(self, module: SharedModule) -> None:
        super().__init__(module.component.signature, path=(module.name.removeprefix("rowcast_"),))
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._module.component, name)
        if isinstance(value, Value | ValueCastable | Elaboratable | wiring.PureInterface):
            raise AttributeError(f"{name} is inside shared module {self._module.name}: make it a port")
        return value

    def elaborate(self, platform: object) -> Fragment:
        """Return the instance, with every port connected."""
        module = self._module
        ports: list[tuple[str, str, object]] = []
        if "clk" in module.ports:
            ports.append(("i", "clk", ClockSignal("sync")))
        if "rst" in module.ports:
            ports.append(("i", "rst", ResetSignal("sync", allow_reset_less=True)))
        for path, member, value in self.signature.flatten(self):
            name = "__".join(map(str, path))
            if name in module.ports:
                ports.append(("i" if member.flow == wiring.In else "o", name, value))
        return Instance(module.name, *ports)


def shared(platform: object, factory: Callable[..., C], /, *args: Any, **kwargs: Any) -> C:
    """Return ``factory(*args, **kwargs)``, or under an :class:`Emitter` an instance of its one module.

    Parameters
    ----------
    platform
        What ``elaborate`` was given; pass it on unchanged.
    factory
        The component's class.
    args, kwargs
        Its constructor's arguments, hashable.

    Returns
    -------
    object with the component's ports, to be added to ``m.submodules`` under a name

    Raises
    ------
    ShareError
        See :meth:`Emitter.module`.
    """
    if isinstance(platform, Emitter) and platform.share:
        return cast(C, SharedInstance(platform.module(factory, args, kwargs)))
    return factory(*args, **kwargs)


def _default_name(cls: type) -> str:
    return "rowcast_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()
