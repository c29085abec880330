"""CPAL added to a plain ResNet-18 classifier: two training steps on random images, and their PACAMs as a picture.

python examples/plug_in.py [pacam.png]
"""

import sys

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.models import resnet18

from cpal import ContextPrototypeLearner, CpalSettings

target = sys.argv[1] if len(sys.argv) > 1 else "pacam.png"
CLASSES, IMAGES = 3, 8
torch.manual_seed(0)
images = torch.rand(IMAGES, 3, 96, 96)
image_label = (torch.rand(IMAGES, CLASSES) > 0.5).float()  # which classes each image shows

body = torch.nn.Sequential(*list(resnet18(weights=None).children())[:-2])  # without pooling and classifier
classifier = torch.nn.Conv2d(512, CLASSES, 1, bias=False)
learner = ContextPrototypeLearner(CLASSES, [512], CpalSettings.preset("default"), seed=0)
optimizer = torch.optim.SGD([*body.parameters(), *classifier.parameters()], lr=0.01)

for epoch in range(2):
    learner.cluster()  # the context prototypes of this epoch
    features = body(images)
    cam = classifier(features)
    loss = F.multilabel_soft_margin_loss(cam.mean(dim=(2, 3)), image_label)
    _, self_loss = learner([features], cam, image_label)
    (loss + self_loss).backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"epoch {epoch}: classification {loss:.3f}, self-supervision {self_loss:.3f}")

learner.cluster()
learner.eval()
with torch.no_grad():
    features = body(images)
    pacam, _ = learner([features], classifier(features), image_label)
picture = F.interpolate(pacam[:, 1:].amax(dim=1, keepdim=True), size=(96, 96), mode="bilinear")[:, 0]
Image.fromarray((255 * torch.cat(list(picture), dim=1)).byte().numpy()).save(target)
print(f"{target}: the PACAM of each image, in a row")
