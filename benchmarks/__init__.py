"""What the service costs compared with scikit-learn in one process, measured in the same run."""
