"""Instruments: what they are called, where their market starts, and in what they are counted."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SIZE_DECIMALS = 8
"""Sizes are counted in units of 10**-8 of the base currency."""

# Where a market starts in USD, to which decimals, and what it turns over in a day.
WELL_KNOWN = {
    "BTC": (65_083.67, 2, 2_867.5),
    "ETH": (1_919.41, 2, 19_976.0),
    "SOL": (151.27, 2, 310_000.0),
    "XRP": (2.1843, 4, 41_000_000.0),
    "DOGE": (0.17352, 5, 160_000_000.0),
}
_OTHERS = (
    "AAVE", "ADA", "ALGO", "ATOM", "AVAX", "BCH", "DOT", "EURC", "LINK", "LRC", "LTC", "NEAR",
    "NKN", "PEPE", "SHIB", "SUI", "TRX", "UNI", "USDC", "USDT",
)  # fmt: skip
QUOTES = ("USD", "USDT", "USDC", "EUR", "GBP", "BTC", "ETH")
"""In what products are paid."""
_DOLLARS = ("USD", "USDT", "USDC")
_JOINED = re.compile(r"([A-Z0-9]+?)(USDT|USDC|USD|EUR|GBP|BTC|ETH)")


@dataclass(frozen=True)
class Instrument:
    """A product, BASE-QUOTE or BASE-QUOTE-PERP.

    `price` is where its market starts, in ticks of ``10 ** -decimals``; `day_volume` is in units
    of ``10 ** -SIZE_DECIMALS``.
    """

    product: str
    price: int
    decimals: int
    day_volume: int

    @classmethod
    def named(cls, product: str) -> Instrument:
        """Return the instrument of any product: a name always means the same one.

        >>> Instrument.named("BTC-USD").price, Instrument.named("BTC-USDT-PERP").price
        (6508367, 6508367)
        """
        base, quote = product.split("-")[:2]
        price, decimals, volume = _in_dollars(base)
        if quote not in _DOLLARS:
            price /= _in_dollars(quote)[0]
            decimals = _usual_decimals(price)
        units = 10**SIZE_DECIMALS
        return cls(product, round(price * 10**decimals), decimals, round(volume * units))

    @property
    def base(self) -> str:
        """What is traded."""
        return self.product.split("-")[0]

    @property
    def quote(self) -> str:
        """What it is paid in."""
        return self.product.split("-")[1]

    @property
    def joined(self) -> str:
        """The name without separators, as some venues write it."""
        return self.base + self.quote


def product_of(joined: str) -> str | None:
    """Return the product of a name without separators; None if it is no pair.

    >>> product_of("BTCUSDT"), product_of("NOPEUSDT"), product_of("X")
    ('BTC-USDT', None, None)
    """
    found = _JOINED.fullmatch(joined)
    product = f"{found[1]}-{found[2]}" if found else ""
    return product if is_known(product) else None


def is_known(product: str) -> bool:
    """Tell whether the model has a product."""
    base, _, quote = product.partition("-")
    return base != quote and base in (*WELL_KNOWN, *_OTHERS) and quote in QUOTES


def all_products(*quotes: str) -> list[str]:
    """Return the products that the model has, or those paid in some currencies, sorted."""
    names = (f"{base}-{quote}" for base in (*WELL_KNOWN, *_OTHERS) for quote in quotes or QUOTES)
    return sorted(name for name in names if is_known(name))


@lru_cache(maxsize=1 << 16)
def decimal_text(value: int, decimals: int, *, trim: bool = False) -> str:
    """Write a whole count of ticks or units as a decimal.

    >>> decimal_text(192000, 2), decimal_text(192000, 2, trim=True), decimal_text(583, 8)
    ('1920.00', '1920', '0.00000583')
    """
    digits = str(value).rjust(decimals + 1, "0")
    text = f"{digits[:-decimals]}.{digits[-decimals:]}"
    return text.rstrip("0").rstrip(".") if trim else text


@dataclass(frozen=True)
class Style:
    """How a venue writes numbers: prices to so many decimals (None: those of the instrument)."""

    decimals: int | None = None
    trim_prices: bool = False
    trim_sizes: bool = False

    def price(self, item: Instrument, ticks: int) -> str:
        """Write a price."""
        digits = max(self.decimals or 0, item.decimals)
        return decimal_text(ticks * 10 ** (digits - item.decimals), digits, trim=self.trim_prices)

    def size(self, units: int) -> str:
        """Write a size."""
        return decimal_text(units, SIZE_DECIMALS, trim=self.trim_sizes)

    def cost(self, item: Instrument, ticks: int, units: int) -> str:
        """Write what a size costs at a price."""
        return self.size(ticks * units // 10**item.decimals)

    def levels(self, item: Instrument, levels: Iterable[tuple[int, int]]) -> str:
        """Write the levels of a book as pairs of text."""
        rows = (f'["{self.price(item, price)}","{self.size(units)}"]' for price, units in levels)
        return f"[{','.join(rows)}]"


def _usual_decimals(price: float) -> int:
    return max(2, 4 - math.floor(math.log10(price)))


def _in_dollars(currency: str) -> tuple[float, int, float]:
    """Return what a currency starts at, its decimals, and its volume in a day."""
    if currency in WELL_KNOWN:
        return WELL_KNOWN[currency]
    rng = random.Random(currency)  # noqa: S311
    price = 10 ** rng.uniform(-1, 2.5)
    return price, _usual_decimals(price), 10 ** rng.uniform(6, 7.5) / price
