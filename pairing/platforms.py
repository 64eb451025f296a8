"""Names of platforms and device families, compared as people mean them and as signatures do."""

_ALIASES = {"darwin": "macos", "win32": "windows"}


def fold_case(text: str | None) -> str:
    """Trim, then map A-Z alone to a-z, as signatures do (protocol §3.2); absent gives the empty string."""
    return (text or "").strip().translate(_ASCII_LOWER)


_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def same_platform(one: str | None, other: str | None) -> bool:
    """Compare platform names as people mean them: `darwin` is `macos`, `win32` is `windows`."""
    a, b = fold_case(one), fold_case(other)
    return _ALIASES.get(a, a) == _ALIASES.get(b, b)
