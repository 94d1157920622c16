//! What is asked: plain prompts that any model has something to say to.

/// The prompt of most checks.
pub(super) const MAIN: &str =
    "Here is a short story about a lighthouse keeper who found a letter in a bottle. One grey morning";

/// One that reasoning models think about.
pub(super) const RIDDLE: &str = "A farmer has 17 sheep. All but 9 run away, then he buys twice as many as he has left. \
                                 How many sheep has he now?";

/// Prompts whose greedy answers are held against f32; they also keep a server busy.
pub(super) const OPENINGS: [&str; 32] = [
    "The history of bread begins",
    "To repair a bicycle tyre, first",
    "Question: A train leaves at 9:40 and arrives at 13:05. How long is the journey?\nAnswer:",
    "The three most important inventions of the nineteenth century were",
    "Dear Ms Okafor,\nthank you for your letter of",
    "def mean(values):\n    \"\"\"Return the arithmetic mean.\"\"\"\n",
    "Question: Anna has 24 apples and gives away a third of them. How many are left?\nAnswer:",
    "In the year 1847, the city of",
    "Ingredients: 500 g flour, 10 g salt, 350 g water.\nMethod:",
    "The difference between weather and climate is",
    "Once upon a time there was a clockmaker who",
    "SELECT name, price FROM products WHERE",
    "Question: What is 17 times 23?\nAnswer: 17 times 23 is",
    "The patient reported that the pain",
    "A good chair should",
    "Water boils at a lower temperature on a mountain because",
    "The capital of Australia is",
    "On the first day of the expedition we",
    "Question: Sam reads 12 pages a day. How many pages does he read in two weeks?\nAnswer:",
    "Prices of coffee rose last month after",
    "The rules of chess say that a pawn",
    "My grandmother's house stood",
    "To whom it may concern: I am writing to",
    "An octopus has three hearts, and",
    "Question: A shop sells 15 lamps at 8 dollars each. How much does it take?\nAnswer:",
    "The committee met on Tuesday to discuss",
    "Music sounds louder at night because",
    "{\"name\": \"Ada\", \"born\": 1815, \"fields\": [",
    "The first step in learning a language is",
    "Between the two rivers lies a plain where",
    "Question: A rope of 96 metres is cut into 8 equal pieces. How long is each piece?\nAnswer:",
    "If the moon were twice as far away,",
];
