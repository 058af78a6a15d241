"""The triplet store: files, index, writer, reader, embeddings of crops, data set for training, tools."""
