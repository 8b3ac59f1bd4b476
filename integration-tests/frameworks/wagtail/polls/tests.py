from django.test import TestCase

from .models import Question


class OneProcess(TestCase):
    def test_question_is_alone(self):
        Question.objects.create(text="one")
        self.assertEqual(Question.objects.count(), 1)


class OtherProcess(TestCase):
    def test_question_is_alone(self):
        Question.objects.create(text="other")
        self.assertEqual(Question.objects.count(), 1)
