"""The peer that a user would write: FastAPI, open_clip as it documents itself, and FAISS."""

import os

import faiss
import open_clip
import torch
from fastapi import FastAPI
from pydantic import BaseModel

MODEL = os.environ["PLAIN_MODEL"]
model = open_clip.create_model(MODEL).eval()
tokenizer = open_clip.get_tokenizer(MODEL)
index = faiss.read_index(os.environ["PLAIN_INDEX"])
app = FastAPI()


class Query(BaseModel):
    text: str
    k: int = 10


@app.post("/search")
def search(query: Query) -> list[dict[str, int | float]]:
    with torch.no_grad():
        vector = model.encode_text(tokenizer([query.text]), normalize=True)
    scores, ids = index.search(vector.numpy(), query.k)
    return [
        {"id": int(number), "score": float(score)}
        for number, score in zip(ids[0], scores[0], strict=True)
    ]
