"""The encoding of a text that is not UTF-8 and says nothing of its own: found, or guessed at.

Words are collected that hold other characters than ASCII. An encoding is plausible if its words are
written in the letters of a language, as Windows-1252's are for the languages of Western Europe.
charset-normalizer is a witness: it tells scripts apart, but often takes one encoding of Latin
letters for another. Where shape and witness leave a doubt, there is a guess and no answer.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import charset_normalizer

WESTERN = "cp1252"
# The bytes of fields that are judged, and of the beginning of a field.
_MAX_BYTES = 65_536
_MAX_FIELD_BYTES = 200
_FIELD = re.compile(
    rb'(?<=[\x00-\x1f,;"])[^\x00-\x1f,;"\x80-\xff]*+[\x80-\xff][^\x00-\x1f,;"]*+(?=[\x00-\x1f,;"])'
)
# Runs of letters, and of what a wrong encoding makes of them. Dashes, quotes and dots stand between
# words; signs stand at their edges, and in units such as m\xb2.
_BETWEEN = "\xa0\xad\xb4\xb7\u2013\u2014\u2018-\u201f\u2026"
_WORD = re.compile(f"(?:[A-Za-z]|[^\x00-\x7f{_BETWEEN}])+")
_EDGES = (
    "\xa1\xa3\xa4\xa5\xa7\xa9\xaa\xab\xad\xae\xb0\xb1\xb2\xb3\xb4\xb5\xb7\xb9\xba\xbb\xbc\xbd\xbe"
    "\xbf\xd7\xf7\u2020\u2021\u2022\u2030\u2039\u203a\u20ac\u2122"
)
_MARKS = re.compile("[^\x00-\x7f]{3,}")
_UNIT = re.compile("[A-Za-z]{0,2}[\xb0\xb2\xb3\xaa\xba]|[\xb0\xb5][A-Za-z]{1,2}")
# A small letter before a capital one with a mark.
_MIXED = "[a-z\xdf-\xff][\xc0-\xde\u0152\u0160\u0178\u017d]"
# Marks that Italian and Portuguese have elsewhere.
_ODD = re.compile(f"{_MIXED}|[\xec\xf9][a-z\xdf-\xff]|\xf5$")
# Three marks in a row, or a sign between letters.
_STRANGE = re.compile(
    f"{_MIXED}|[^\x00-\x7f]{{3}}|[A-Za-z](?![\xc0-\xff])[\xa1-\xff\u2020-\u2122]+[A-Za-z]"
)
# Letters of languages beside ASCII.
_ALPHABETS = {
    WESTERN: (
        *("äöüß", "àâæçéèêëîïôœùûüÿ", "áéíïñóúüç", "áâãàçéêíóôõúü", "àèéìíîòóùú"),
        *(
            "åäöéüàšž",
            "æøåéóòêôüäö",
            "éëïóöüèáíúêçâ",
            "áéíóúýþæðö",
            "áíóúýæøð",
            "àçèéíïòóúü",
        ),
        "äõöüšž",
    ),
    "cp1250": (
        *("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž"),
        *("ăâîşţ", "ëç", "äöüß"),
    ),
    "cp1254": ("çğıöşüâîû",),
    "cp1257": ("āčēģīķļņšūž", "ąčęėįšųūž", "äõöüšž"),
}
_SAME = {"mac-roman": WESTERN}
_LATIN = (*_ALPHABETS, *_SAME)
_CJK = "\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
_SCRIPTS = {
    "cp1251": re.compile("[\u0401-\u045f\u0490\u0491]"),
    "koi8-r": re.compile("[\u0401-\u045f]"),
    "iso8859-7": re.compile("[\u0370-\u03ff]"),
    "cp1253": re.compile("[\u0370-\u03ff]"),
    "gb18030": re.compile(f"[{_CJK}]"),
    "big5": re.compile(f"[{_CJK}]"),
    "shift_jis": re.compile(f"[{_CJK}\u3040-\u30ff]"),
    "euc_kr": re.compile(f"[{_CJK}\uac00-\ud7af]"),
}
_CASED = ("cp1251", "koi8-r", "iso8859-7", "cp1253")
_CANDIDATES = (WESTERN, "cp1250", "mac-roman", "cp1254", "cp1257", *_SCRIPTS)
# Shares of words that make an encoding plausible, doubtful, and unlikely; numbers of words.
_PLAUSIBLE, _DOUBTFUL, _UNLIKELY = 0.95, 0.8, 0.6
_MANY = 5
# Two bytes may be a character in each of these.
_LEAST_BYTES = dict.fromkeys(("gb18030", "big5", "shift_jis", "euc_kr"), 40)


@dataclass(frozen=True)
class Finding:
    """The encoding, if it is beyond doubt, and the best guess."""

    encoding: str | None
    guess: str


@dataclass(frozen=True)
class _Share:
    """Which shares of the words are written in the letters of one language, and of any.

    `n_words` are those that tell, `n_strange` of them are no words of Latin letters at all.
    """

    of_one: float = 0.0
    of_any: float = 0.0
    n_words: int = 0
    n_strange: int = 0
    is_decodable: bool = True


class Words:
    """The fields of a text that are not ASCII, as far as they are judged."""

    def __init__(self) -> None:
        """Collect none yet."""
        self._fields: dict[bytes, None] = {}
        self._n_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no more fields are collected."""
        return self._n_bytes >= _MAX_BYTES

    def add(self, part: bytes) -> None:
        """Collect the fields of a part of the text, without those at its ends."""
        if part.isascii():
            return
        for found in _FIELD.finditer(part):
            field = found[0][:_MAX_FIELD_BYTES]
            if field not in self._fields:
                self._fields[field] = None
                self._n_bytes += len(field)
            if self.is_full:
                return

    def judge(self) -> Finding:
        """Return the encoding of the fields; that of Western Europe where they do not tell."""
        fields = list(self._fields)
        n_utf8 = sum(map(_is_utf8, fields))
        if n_utf8 >= _PLAUSIBLE * len(fields) > 0:
            return Finding(None, "utf-8")
        shares = {name: _share(fields, name) for name in _CANDIDATES}
        if _is_western(shares):
            is_eastern = _is_eastern(shares)
            guess = "cp1250" if is_eastern else WESTERN
            return Finding(None if is_eastern else WESTERN, guess)
        plausible = [
            name for name in _CANDIDATES[1:] if shares[name].of_one >= _PLAUSIBLE
        ]
        guess = _guess(fields, plausible)
        # Too little to tell, or letters of both sides of Europe.
        is_doubtful = (
            guess not in plausible
            or shares[guess].n_words < _MANY
            or sum(map(len, fields)) < _LEAST_BYTES.get(guess, 0)
            or shares[WESTERN].of_any > _DOUBTFUL
        )
        return Finding(None if is_doubtful else guess, guess)


def _is_utf8(field: bytes) -> bool:
    try:
        field.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_western(shares: Mapping[str, _Share]) -> bool:
    """Return whether almost all words are those of Western Europe; a single one may be a name."""
    found = shares[WESTERN]
    if not found.is_decodable:
        return False
    return found.of_any >= _PLAUSIBLE or (found.n_words == 1 and not found.n_strange)


def _is_eastern(shares: Mapping[str, _Share]) -> bool:
    """Return whether a language of Central Europe explains far more words than one of the West."""
    found = shares["cp1250"]
    is_likely = found.of_one >= _PLAUSIBLE and found.n_words >= _MANY
    return is_likely and shares[WESTERN].of_one < _UNLIKELY


def _guess(fields: Sequence[bytes], plausible: Sequence[str]) -> str:
    """Return the likeliest encoding: of the plausible ones, the one that the witness names."""
    witness = _witness(fields)
    if not plausible:
        return witness or WESTERN
    if "cp1253" in plausible and witness == "iso8859-7":
        # Where both are, they differ in a letter with an accent, which the other reads as a quote.
        return "cp1253"
    if witness in plausible and witness is not None:
        return witness
    # The witness does not know the encodings of Latin letters well, but those of other scripts.
    return next((name for name in plausible if name in _LATIN), plausible[0])


def _witness(fields: Sequence[bytes]) -> str | None:
    """Return the encoding that charset-normalizer finds the likeliest."""
    names = [codecs.lookup(name).name.replace("-", "_") for name in _CANDIDATES]
    best = charset_normalizer.from_bytes(b"\n".join(fields), cp_isolation=names).best()
    if best is None:
        return None
    return next((name for name in _CANDIDATES if _is_same(name, best.encoding)), None)


def _is_same(name: str, other: str) -> bool:
    return codecs.lookup(name).name == codecs.lookup(other).name


def _decoded(content: bytes, name: str) -> str | None:
    """Return a text, without a character cut off at its end; None if it cannot be decoded."""
    try:
        return codecs.getincrementaldecoder(name)().decode(content)
    except UnicodeDecodeError:
        return None


def _share(fields: Sequence[bytes], name: str) -> _Share:
    words: dict[str, None] = {}
    for field in fields:
        text = _decoded(field, name)
        if text is None:
            return _Share(is_decodable=False)
        words.update(dict.fromkeys(_telling_words(text)))
    if not words:
        return _Share(1.0, 1.0)
    if name in _SCRIPTS:
        share = sum(_is_in_script(word, name) for word in words) / len(words)
        return _Share(share, share, len(words))
    return _share_of_alphabets(list(words), _SAME.get(name, name))


def _telling_words(text: str) -> Iterator[str]:
    """Yield the words of a text that hold other letters than ASCII."""
    for found in _WORD.finditer(text):
        is_garbled = any(map(_is_garbled, _MARKS.findall(found[0])))
        word = found[0] if is_garbled else found[0].strip(_EDGES)
        if not word.isascii() and not _UNIT.fullmatch(found[0]):
            yield word


def _is_garbled(marks: str) -> bool:
    """Return whether marks in a row are several signs, or signs among letters."""
    return len(set(marks)) > 1 and not set(marks).isdisjoint(_EDGES)


def _share_of_alphabets(words: Sequence[str], name: str) -> _Share:
    usual = [word for word in words if not _ODD.search(word)]
    marks = [{each.lower() for each in word if not each.isascii()} for word in usual]
    fits = [[used <= set(letters) for used in marks] for letters in _ALPHABETS[name]]
    of_one = max(map(sum, fits)) / len(words)
    of_any = sum(map(any, zip(*fits, strict=True))) / len(words)
    n_strange = sum(bool(_STRANGE.search(word)) for word in words)
    return _Share(of_one, of_any, len(words), n_strange)


def _is_in_script(word: str, name: str) -> bool:
    """Return whether all letters of a word are of the script, and capital ones come first."""
    if not all(_SCRIPTS[name].match(each) for each in word if not each.isascii()):
        return False
    if name not in _CASED:
        return True
    has_ascii = any(each.isascii() for each in word)
    return not has_ascii and (word[1:].islower() or word.isupper() or len(word) == 1)
