"""What the service costs over scikit-learn in one process, measured side by side in one run."""
