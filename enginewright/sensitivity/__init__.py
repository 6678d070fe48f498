"""What INT8 costs layer by layer, and which layers to leave in FP16 so that the accuracy gate holds."""
