"""FI, ArtPhoto, Abstract, IAPSa, EmoSet, EmotionROI, Emotion6, LDL: each as it is handed around."""

from __future__ import annotations

import json

import pytest

from handler.values.emotions import EKMAN, MIKELS
from train.datasets.reading import read_dataset
from train.datasets.table import NOT_THERE

FI_FOLDERS = {
    "short names under splits": ("train/amuse", "train/excit", "val/content", "val/sad"),
    "full names under splits": ("train/amusement", "test/excitement", "val/sadness"),
    "one level": ("amusement", "anger", "sadness"),
    "capitalised": ("Amusement", "Awe", "Sadness"),
}


@pytest.mark.parametrize("names", FI_FOLDERS.values(), ids=FI_FOLDERS)
def test_fi_as_folders(tmp_path, picture, names, labels):
    files = {f"{folder}/{folder.split('/')[-1]}_{i}.jpg" for folder in names for i in range(2)}
    for file in files:
        picture(file)
    dataset = read_dataset(tmp_path, MIKELS)
    assert set(labels(dataset)) == files
    for file, label in labels(dataset).items():
        assert label == MIKELS.labels[MIKELS.index(file.split("/")[-2])]
    assert dataset.split_source == ("given" if "/" in names[0] else "random")


def test_fi_as_one_folder_with_a_list_of_the_test_images(tmp_path, pictures, text, labels, splits):
    pictures([f"Images/awe_{i}.jpg" for i in range(4)] + ["Images/x1.jpg", "Images/stranger.jpg"])
    text("TestImages.txt", "awe/awe_0.jpg\nsadness/x1.jpg\nawe/absent.jpg\n")
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset)["Images/x1.jpg"] == "sadness"
    assert splits(dataset)["Images/awe_0.jpg"] == splits(dataset)["Images/x1.jpg"] == "test"
    assert {splits(dataset)[f"Images/awe_{i}.jpg"] for i in (1, 2, 3)} == {"train", "val"}
    assert "Images/stranger.jpg" not in labels(dataset), "nothing says what it evokes"
    assert dataset.refused[NOT_THERE] == ["absent.jpg"]


@pytest.mark.parametrize("name", ["FI.csv", "FI_complete.csv"])
def test_fi_as_a_csv_of_sentiment_keeps_the_emotions_that_its_paths_name(
    tmp_path, pictures, text, labels, name
):
    pictures(["images/amusement/amusement_1.jpg", "images/fear/fear_2.jpg"])
    text(name, "path,class\namusement/amusement_1.jpg,2\nfear/fear_2.jpg,0\nfear/gone.jpg,0\n")
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {
        "images/amusement/amusement_1.jpg": "amusement",
        "images/fear/fear_2.jpg": "fear",
    }
    assert dataset.refused == {NOT_THERE: ["fear/gone.jpg"]}


def test_fi_as_json_lists_of_name_and_label(tmp_path, pictures, text, labels, splits):
    pictures(["images/a.jpg", "images/b.jpg", "images/c.jpg"])
    text("fi_train.json", json.dumps([["a.jpg", "content"], ["b.jpg", "disgust"]]))
    text("fi_val.json", json.dumps([["c.jpg", "awe"]]))
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {
        "images/a.jpg": "contentment",
        "images/b.jpg": "disgust",
        "images/c.jpg": "awe",
    }
    assert splits(dataset)["images/a.jpg"] == "train"
    assert splits(dataset)["images/c.jpg"] == "val"


def test_artphoto_has_the_emotion_in_the_file_name(tmp_path, pictures, text, labels):
    pictures([f"testImages_artphoto/{name}_0101.jpg" for name in ("amusement", "sad", "fear")])
    text("testImages_artphoto/ReadMe.rtf", "x")
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {
        "testImages_artphoto/amusement_0101.jpg": "amusement",
        "testImages_artphoto/fear_0101.jpg": "fear",
        "testImages_artphoto/sad_0101.jpg": "sadness",
    }
    assert labels(read_dataset(tmp_path / "testImages_artphoto", MIKELS)).keys() == {
        "amusement_0101.jpg",
        "fear_0101.jpg",
        "sad_0101.jpg",
    }
    assert dataset.refused == {"no image file": ["testImages_artphoto/ReadMe.rtf"]}


def test_abstract_takes_the_most_votes_and_leaves_ties_out(tmp_path, pictures, text, labels):
    pictures([f"testImages_abstract/abstract_000{i}.jpg" for i in range(3)])
    header = "'','Amusement','Anger','Awe','Content','Disgust','Excitement','Fear','Sad'"
    lines = [
        "'abstract_0000.jpg',0,1,0,5,0,1,1,2",
        "'abstract_0001.jpg',4,1,0,0,0,1,4,0",
        "'abstract_0002.jpg',0,0,0,0,1,0,0,9",
    ]
    text("testImages_abstract/ABSTRACT_groundTruth.csv", "\n".join([header, *lines]))
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {
        "testImages_abstract/abstract_0000.jpg": "contentment",
        "testImages_abstract/abstract_0002.jpg": "sadness",
    }
    assert dataset.refused == {"a tie: no emotion has the most votes": ["abstract_0001.jpg"]}
    sad = dataset.table["distribution"].iloc[1]
    assert sad[MIKELS.index("sadness")] == 0.9
    assert sad[MIKELS.index("disgust")] == 0.1


def test_iapsa_takes_the_highest_mean_of_both_tables(tmp_path, pictures, text, labels):
    pictures(["IAPS_all/1463.jpg", "IAPS_all/2055.1.jpg", "IAPS_all/9000.JPG"])
    text(
        "Mikels2005positivenorms.csv",
        "Picture,AmusMean,AweMean,ContMean,ExciMean\n1463,5.1,1.2,4.0,3.3\n2819,1,2,3,4\n",
    )
    text(
        "Mikels2005negativenorms.csv",
        "Picture,AngrMean,DisgMean,FearMean,SadnMean\n2055.1,2.0,1.1,1.9,3.3\n9000,1,4.5,2,3\n",
    )
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {
        "IAPS_all/1463.jpg": "amusement",
        "IAPS_all/2055.1.jpg": "sadness",
        "IAPS_all/9000.JPG": "disgust",
    }
    assert dataset.refused == {NOT_THERE: ["2819"]}


def test_half_of_iapsa_is_read_and_said_to_be_half(tmp_path, pictures, text, labels):
    pictures(["IAPS_all/9000.jpg"])
    text("Mikels2005negativenorms.csv", "Picture,AngrMean,DisgMean,FearMean,SadnMean\n9000,1,4,2,3")
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {"IAPS_all/9000.jpg": "disgust"}
    assert any("other half" in note for note in dataset.notes)


def test_emoset_lists_may_have_three_or_four_fields(tmp_path, pictures, text, labels, splits):
    names = ["image/awe/awe_00001.jpg", "image/fear/fear_00002.jpg", "image/awe/awe_00003.jpg"]
    pictures(names)
    text("info.json", json.dumps({"label2idx": {}}))
    text("train.json", json.dumps([["awe", names[0], "annotation/awe/awe_00001.json"]]))
    text("val.json", json.dumps([["fear", "00002", names[1], "annotation/fear/fear_00002.json"]]))
    text("test.json", json.dumps([["awe", names[2], "x.json"], ["awe"], ["joy", names[2], "x"]]))
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == dict(zip(names, ("awe", "fear", "awe"), strict=True))
    assert splits(dataset) == dict(zip(names, ("train", "val", "test"), strict=True))
    assert dataset.refused == {
        "no [emotion, image, annotation]": ["test.json, entry 2", "test.json, entry 3"]
    }
    assert dataset.split_source == "given"


def test_emotion_roi_keeps_its_own_split_and_makes_room_for_validation(
    tmp_path, pictures, text, labels, splits
):
    training = [f"joy/{i}.jpg" for i in range(30)] + ["anger/1.jpg", "anger/2.jpg"]
    testing = ["surprise/7.jpg", "joy/99.jpg"]
    pictures([f"images/{name}" for name in [*training, *testing, "fear/4.jpg"]])
    pictures([f"ground_truth/{name}" for name in training])
    text("training_testing_split/training.txt", "\n".join(training))
    text("training_testing_split/testing.txt", "\n".join(testing))
    dataset = read_dataset(tmp_path, EKMAN)
    found = splits(dataset)
    assert {name for name, split in found.items() if split == "test"} == {
        f"images/{name}" for name in testing
    }
    validation = [name for name, split in found.items() if split == "val"]
    assert len([name for name in validation if "joy" in name]) == 2, "5 in 85 of 30"
    assert len([name for name in validation if "anger" in name]) == 1
    assert labels(dataset)["images/surprise/7.jpg"] == "surprise"
    assert dataset.refused == {"in neither list": ["images/fear/4.jpg"]}
    assert any("no validation split is given" in note for note in dataset.notes)


EMOTION6 = (
    "[image_filename]\t[valence]\t[arousal]\t[prob. anger]\t[prob. disgust]\t[prob. fear]\t"
    "[prob. joy]\t[prob. sadness]\t[prob. surprise]\t[prob. neutral]\n"
)


def test_emotion6_has_distributions_without_neutral(tmp_path, pictures, text, labels):
    pictures(["images/anger/1.jpg", "images/joy/2.jpg", "images/joy/3.jpg"])
    text(
        "ground_truth.txt",
        EMOTION6
        + "anger/1.jpg\t2.5\t3.8\t0.1\t0.4\t0\t0\t0.3\t0\t0.2\n"
        + "joy/2.jpg\t6\t5\t0\t0\t0\t0.3\t0\t0\t0.7\n"
        + "joy/3.jpg\t6\t5\t0\t0\t0\t0.6\t0\t0.3\t0.1\n"
        + "joy/4.jpg\t6\t5\n",
    )
    dataset = read_dataset(tmp_path, EKMAN)
    assert labels(dataset) == {"images/anger/1.jpg": "disgust", "images/joy/3.jpg": "joy"}
    (neutral,) = [names for reason, names in dataset.refused.items() if "neutral" in reason]
    assert neutral == ["joy/2.jpg"]
    assert dataset.refused["not 10 columns"] == ["ground_truth.txt, line 5"]
    shares = dataset.table["distribution"].iloc[0]
    assert sum(shares) == pytest.approx(1)
    assert shares[EKMAN.index("disgust")] == pytest.approx(0.5), "of 0.8 that are not neutral"


def test_emotion6_as_json_has_labels_alone(tmp_path, pictures, text, labels):
    pictures(["anger/1.jpg", "joy/2.jpg"])
    text(
        "Emotion6.json",
        json.dumps(
            {
                "anger/1.jpg": {"true_emotion": "sadness", "dominant_emotion": "anger"},
                "joy/2.jpg": {"true_emotion": "neutral"},
                "joy/3.jpg": {"true_emotion": "joy"},
            }
        ),
    )
    dataset = read_dataset(tmp_path, EKMAN)
    assert labels(dataset) == {"anger/1.jpg": "sadness"}
    assert dataset.refused[NOT_THERE] == ["joy/3.jpg"]
    assert "distribution" not in dataset.table


LDL_HEADER = "images-name Amusement Awe Contentment Excitement Anger Disgust Fear Sadness\n"


@pytest.mark.parametrize("header", ["", LDL_HEADER], ids=["without header", "with header"])
def test_ldl_as_text(tmp_path, pictures, text, labels, splits, header):
    pictures(["images/1.jpg", "images/2.jpg", "images/3.jpg"])
    text("ground_truth_train.txt", header + "1.jpg 5 1 1 1 0 0 0 0 0\n2.jpg 0 0 2 2 0 0 0 0 2\n")
    text("ground_truth_test.txt", header + "3.jpg 0 0 0 0 0 0 0 8 7\n")
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {
        "images/1.jpg": "amusement",
        "images/2.jpg": "contentment",
        "images/3.jpg": "sadness",
    }
    assert splits(dataset)["images/3.jpg"] == "test"
    assert dataset.table["distribution"].iloc[0] == (0.625, 0.125, 0.125, 0.125, 0, 0, 0, 0)
    assert any(note.startswith("1 images have more than one") for note in dataset.notes)


def test_a_header_of_ldl_says_the_order(tmp_path, pictures, text, labels):
    pictures(["images/1.jpg"])
    text(
        "ground_truth.txt",
        "images-name Anger Amusement Awe Contentment Disgust Excitement Fear Sadness\n"
        "1.jpg 5 1 0 0 0 0 0 0\n",
    )
    assert labels(read_dataset(tmp_path, MIKELS)) == {"images/1.jpg": "anger"}


@pytest.mark.parametrize("name", ["flickrldl_config.csv", "twitterldl_config.csv"])
def test_ldl_as_csv_takes_the_folders_as_split(tmp_path, pictures, text, labels, splits, name):
    pictures(["train/1.jpg", "train/2.jpg", "test/3.jpg"])
    text(
        name,
        "image,amusement,awe,contentment,excitement,anger,disgust,fear,sadness\n"
        "1.jpg,0,0.75,0.25,0,0,0,0,0\n2.jpg,0,0,0,0,0,0,1,0\n3.jpg,0,0,0,0,0,0,0,1\n"
        "4.jpg,0,0,0,0,0,0,0,0\n",
    )
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {"train/1.jpg": "awe", "train/2.jpg": "fear", "test/3.jpg": "sadness"}
    assert splits(dataset)["test/3.jpg"] == "test"
    assert dataset.refused == {"no vote for any emotion": [f"{name}, line 5"]}
