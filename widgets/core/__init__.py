"""What every chapter uses: exercises, quizzes, predictions, progress, report."""
