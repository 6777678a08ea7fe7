"""Time zones: the clock that hangs on the wall of each calendar's exchange."""

from __future__ import annotations

UTC = "UTC"

# Calendar (ISO 10383 code, as exchange_calendars writes it) → IANA time zone.
ZONES: dict[str, str] = {
    "24/7": UTC,
    "BVMF": "America/Sao_Paulo",
    "XAMS": "Europe/Amsterdam",
    "XASX": "Australia/Sydney",
    "XBKK": "Asia/Bangkok",
    "XBOM": "Asia/Kolkata",
    "XBRU": "Europe/Brussels",
    "XBUD": "Europe/Budapest",
    "XBUE": "America/Argentina/Buenos_Aires",
    "XCSE": "Europe/Copenhagen",
    "XDUB": "Europe/Dublin",
    "XETR": "Europe/Berlin",
    "XFRA": "Europe/Berlin",
    "XHEL": "Europe/Helsinki",
    "XHKG": "Asia/Hong_Kong",
    "XIDX": "Asia/Jakarta",
    "XIST": "Europe/Istanbul",
    "XJSE": "Africa/Johannesburg",
    "XKLS": "Asia/Kuala_Lumpur",
    "XKRX": "Asia/Seoul",
    "XLIS": "Europe/Lisbon",
    "XLON": "Europe/London",
    "XMAD": "Europe/Madrid",
    "XMEX": "America/Mexico_City",
    "XMIL": "Europe/Rome",
    "XNYS": "America/New_York",
    "XNZE": "Pacific/Auckland",
    "XOSL": "Europe/Oslo",
    "XPAR": "Europe/Paris",
    "XPRA": "Europe/Prague",
    "XSAU": "Asia/Riyadh",
    "XSES": "Asia/Singapore",
    "XSGO": "America/Santiago",
    "XSHG": "Asia/Shanghai",
    "XSTO": "Europe/Stockholm",
    "XSWX": "Europe/Zurich",
    "XTAI": "Asia/Taipei",
    "XTKS": "Asia/Tokyo",
    "XTSE": "America/Toronto",
    "XWAR": "Europe/Warsaw",
    "XWBO": "Europe/Vienna",
}


def zone_of(calendar: str) -> str:
    """The IANA time zone of a calendar's exchange; UTC for one that is not known."""
    return ZONES.get(calendar, UTC)
