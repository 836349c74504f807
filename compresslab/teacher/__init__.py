"""Whom a student learns from: a network, arrays of predictions, or several of these."""

from compresslab.teacher.answers import OUTPUT, Answers, Cache, Question, Teacher
from compresslab.teacher.arrays import ArrayTeacher
from compresslab.teacher.network import NetworkTeacher
from compresslab.teacher.opening import network_teacher, open_teacher
from compresslab.teacher.several import AverageTeacher
from compresslab.teacher.spec import TeacherSpec

__all__ = [
    "OUTPUT",
    "Answers",
    "ArrayTeacher",
    "AverageTeacher",
    "Cache",
    "NetworkTeacher",
    "Question",
    "Teacher",
    "TeacherSpec",
    "network_teacher",
    "open_teacher",
]
