"""Assignments: their texts, the student notebooks made from them, and the grading."""
