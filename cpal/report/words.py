"""Plain names of figures, curves and layers, each with a sentence that says what good looks like."""

LAYERS = {
    "Image": "The photograph.",
    "CAM": "Class activation map of the classifier. Good: bright on the object alone. White lines: its threshold.",
    "PACAM": "CPAL's map from context prototypes. Good: bright on the whole object, not only on its most typical part.",
    "Taught CAM": "Map of a layer that learned from sure pixels. Good: the object, with the sharpest border.",
    "CRF": "The seeds after the CRF, which pulls borders to edges of the photograph. Good: borders follow the object.",
    "Pseudo-mask": "The final mask of a training image. Hatched pixels are void. Good: few.",
    "Prediction": "What the trained model sees, without the labels. Good: as the pseudo-mask, with fewer slips.",
    "Ground truth": "The mask drawn by hand, used for scores only.",
}

GOOD_MAP = 90  # mAP of the classifier, in percent

WITHOUT_TRUTH = {
    "images": ("Images", "How many images the figures of this step are of."),
    "coverage": ("Pixels with a class", "Good: near the share that your objects take of a photograph, by eye."),
    "void": (
        "Void pixels",
        "Pixels without a label, in the complete masks. Good: below 15; more means that the CRF is unsure.",
    ),
    "void_training": (
        "Void pixels to learn from",
        "In the masks that the model learns from, where unsure background is void too. Good: below 25.",
    ),
    "labels_found": ("Labels found", "Image-level labels with at least one pixel. Good: 98 and more."),
    "label_f1": (
        "F1 of the labels",
        "Classes that cover a hundredth of an image against its labels. Good: 95 and more; of the segmentation, 80.",
    ),
    "agreement": (
        "Agreement with the step before",
        "Equal pixels. Good: 85 to 98 for the CRF, 90 and more for the others. Background counts too: bad masks "
        "of small objects hardly show here.",
    ),
    "confidence": (
        "Confidence",
        "Mean probability of the CRF's labels. Good: 90 and more. It can be high for wrong masks.",
    ),
}

CURVES = {
    "loss": ("Loss", "Good: falls, then levels off. Still falling at the end: train longer."),
    "loss_ce": ("Cross-entropy", "Of each pixel and its pseudo-mask. Good: falls, then levels off."),
    "loss_image": ("Loss of the classes of a crop", "Good: falls near 0, with `segmentation.image_head`."),
    "loss_classification": ("Loss of the image-level labels", "Good: falls near 0."),
    "loss_self": ("Loss between CAM and PACAM", "Good: small, level; 0 until prototypes exist (Eq. 1)."),
    "cam_precision": ("CAM: precision, %", "Map pixels that are on their class. Good: rises with the epochs."),
    "cam_coverage": ("CAM: coverage, %", "Pixels of the class that the map finds. Good: rises; CAM alone stays low."),
    "pacam_precision": ("PACAM: precision, %", "As of CAM. Good: not far below CAM's while its coverage is higher."),
    "pacam_coverage": ("PACAM: coverage, %", "Pixels of the class that the map finds. Good: clearly above CAM's."),
    "cam_purity": ("Purity of CAM's instances, %", "Pixels behind an instance that are its class. Good: 60 and more."),
    "instance_purity": ("Purity of the instances, %", "The same after refinement. Good: at least that of CAM's."),
    "context_purity": (
        "Purity of the prototypes, %",
        "The same for the context prototypes. Good: as the instances.",
    ),
    "context_usage": ("Prototypes in use, %", "Prototypes that are some image's neighbour. Good: 60 and more."),
    "effective_neighbors": (
        "Neighbours that count",
        "Good: from 2 to cpal.topk. Near 1, context adds nothing.",
    ),
    "ocsem": ("Likeness of image and prototype", "Cosine of an instance and its nearest prototype. Good: rises."),
    "ocsem_aligned": ("The same after alignment", "Good: above the figure before alignment (the paper's Eq. 8)."),
    "shift": ("Length of the alignment's shift", "Relative to the instance. Good: levels off below 1."),
}

SEED_SOURCE = {  # what the seeds are made from, by seeds.source
    "pacam": "PACAM",
    "cam": "CAM",
    "taught": "the taught CAM",
    "both": "the mean of CAM and PACAM",
    "imported": "imported CAMs",
}
