"""A target of one's own, for 19-your-own-loss: regression by the Huber loss."""

import torch.nn.functional as F


class Huber:
    out_channels = 2

    def loss(self, output, chroma):
        truth = F.adaptive_avg_pool2d(chroma, output.shape[-2:])  # (B, 2, h, w)
        return F.smooth_l1_loss(output, truth / 110, beta=0.1)

    def decode(self, output):
        return output * 110
