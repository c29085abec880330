"""Image-level labels of a folder of pictures: from a table, from class folders, from VOC's XML or from YOLO's files."""
