"""Students that are made of their teacher: with weights that are near it before anything is trained."""

from compresslab.students.derive import Corpus, Derived, derive, derive_static, unspelt
from compresslab.students.making import make_student, rehearse_student
from compresslab.students.seeing import Examples
from compresslab.students.settings import FromTeacher, Static, Trim
from compresslab.students.spec import StudentSpec
from compresslab.students.vocabulary import Trimmed, trim

__all__ = [
    "Corpus",
    "Derived",
    "Examples",
    "FromTeacher",
    "Static",
    "StudentSpec",
    "Trim",
    "Trimmed",
    "derive",
    "derive_static",
    "make_student",
    "rehearse_student",
    "trim",
    "unspelt",
]
