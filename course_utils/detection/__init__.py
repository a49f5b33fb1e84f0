"""Detection: boxes, metrics, errors, targets checked, models, augmentation."""
