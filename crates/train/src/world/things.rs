//! The things of the world, and how one speaks of them.

/// A kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// One of it.
    pub name: &'static str,
    /// Several.
    pub plural: &'static str,
    /// Unicode code points in hexadecimal, as artwork is named by.
    pub code_points: &'static str,
    /// How it is counted.
    pub number: Number,
}

/// How a word is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// A dog, two dogs.
    One,
    /// Scissors are several even where they are one.
    Several,
    /// Corn is not counted.
    Mass,
}

use Number::{Mass, One, Several};

impl Class {
    /// "a dog", "an apple", "scissors".
    pub fn with_article(&self) -> String {
        match (
            self.number,
            self.name.starts_with(['a', 'e', 'i', 'o', 'u']),
        ) {
            (Several | Mass, _) => self.name.to_string(),
            // What is heard counts, not what is written.
            (One, true) if self.name != "unicorn" => format!("an {}", self.name),
            (One, _) => format!("a {}", self.name),
        }
    }

    /// "is" or "are".
    pub fn is(&self) -> &'static str {
        match self.number {
            Several => "are",
            One | Mass => "is",
        }
    }
}

const fn thing(
    name: &'static str,
    plural: &'static str,
    code_points: &'static str,
    number: Number,
) -> Class {
    Class {
        name,
        plural,
        code_points,
        number,
    }
}

/// A hundred things that look different and that everybody has a word for.
pub const THINGS: [Class; 100] = [
    thing("dog", "dogs", "1f436", One),
    thing("cat", "cats", "1f431", One),
    thing("lion", "lions", "1f981", One),
    thing("cow", "cows", "1f42e", One),
    thing("pig", "pigs", "1f437", One),
    thing("rabbit", "rabbits", "1f430", One),
    thing("bear", "bears", "1f43b", One),
    thing("panda", "pandas", "1f43c", One),
    thing("koala", "koalas", "1f428", One),
    thing("monkey", "monkeys", "1f435", One),
    thing("chicken", "chickens", "1f414", One),
    thing("penguin", "penguins", "1f427", One),
    thing("frog", "frogs", "1f438", One),
    thing("fox", "foxes", "1f98a", One),
    thing("elephant", "elephants", "1f418", One),
    thing("giraffe", "giraffes", "1f992", One),
    thing("zebra", "zebras", "1f993", One),
    thing("snake", "snakes", "1f40d", One),
    thing("turtle", "turtles", "1f422", One),
    thing("octopus", "octopuses", "1f419", One),
    thing("whale", "whales", "1f433", One),
    thing("dolphin", "dolphins", "1f42c", One),
    thing("shark", "sharks", "1f988", One),
    thing("snail", "snails", "1f40c", One),
    thing("butterfly", "butterflies", "1f98b", One),
    thing("bee", "bees", "1f41d", One),
    thing("ladybug", "ladybugs", "1f41e", One),
    thing("crab", "crabs", "1f980", One),
    thing("owl", "owls", "1f989", One),
    thing("duck", "ducks", "1f986", One),
    thing("flamingo", "flamingos", "1f9a9", One),
    thing("unicorn", "unicorns", "1f984", One),
    thing("apple", "apples", "1f34e", One),
    thing("banana", "bananas", "1f34c", One),
    thing("grapes", "grapes", "1f347", Several),
    thing("watermelon", "watermelons", "1f349", One),
    thing("lemon", "lemons", "1f34b", One),
    thing("strawberry", "strawberries", "1f353", One),
    thing("pineapple", "pineapples", "1f34d", One),
    thing("cherries", "cherries", "1f352", Several),
    thing("carrot", "carrots", "1f955", One),
    thing("corn", "corn", "1f33d", Mass),
    thing("broccoli", "broccoli", "1f966", Mass),
    thing("mushroom", "mushrooms", "1f344", One),
    thing("pizza", "pizzas", "1f355", One),
    thing("burger", "burgers", "1f354", One),
    thing("fries", "fries", "1f35f", Several),
    thing("cake", "cakes", "1f382", One),
    thing("donut", "donuts", "1f369", One),
    thing("cookie", "cookies", "1f36a", One),
    thing("cheese", "cheeses", "1f9c0", One),
    thing("avocado", "avocados", "1f951", One),
    thing("eggplant", "eggplants", "1f346", One),
    thing("car", "cars", "1f697", One),
    thing("bus", "buses", "1f68c", One),
    thing("train", "trains", "1f682", One),
    thing("bicycle", "bicycles", "1f6b2", One),
    thing("airplane", "airplanes", "2708-fe0f", One),
    thing("rocket", "rockets", "1f680", One),
    thing("helicopter", "helicopters", "1f681", One),
    thing("sailboat", "sailboats", "26f5", One),
    thing("tractor", "tractors", "1f69c", One),
    thing("truck", "trucks", "1f69a", One),
    thing("motorcycle", "motorcycles", "1f3cd-fe0f", One),
    thing("umbrella", "umbrellas", "2614", One),
    thing("guitar", "guitars", "1f3b8", One),
    thing("ball", "balls", "26bd", One),
    thing("basketball", "basketballs", "1f3c0", One),
    thing("football", "footballs", "1f3c8", One),
    thing("clock", "clocks", "23f0", One),
    thing("camera", "cameras", "1f4f7", One),
    thing("laptop", "laptops", "1f4bb", One),
    thing("book", "books", "1f4d5", One),
    thing("key", "keys", "1f511", One),
    thing("lock", "locks", "1f512", One),
    thing("hammer", "hammers", "1f528", One),
    thing("scissors", "scissors", "2702-fe0f", Several),
    thing("lightbulb", "lightbulbs", "1f4a1", One),
    thing("balloon", "balloons", "1f388", One),
    thing("gift", "gifts", "1f381", One),
    thing("crown", "crowns", "1f451", One),
    thing("hat", "hats", "1f3a9", One),
    thing("bell", "bells", "1f514", One),
    thing("magnet", "magnets", "1f9f2", One),
    thing("ghost", "ghosts", "1f47b", One),
    thing("skull", "skulls", "1f480", One),
    thing("tree", "trees", "1f333", One),
    thing("cactus", "cactuses", "1f335", One),
    thing("sunflower", "sunflowers", "1f33b", One),
    thing("rose", "roses", "1f339", One),
    thing("house", "houses", "1f3e0", One),
    thing("star", "stars", "2b50", One),
    thing("moon", "moons", "1f319", One),
    thing("heart", "hearts", "2764-fe0f", One),
    thing("fire", "fires", "1f525", One),
    thing("rainbow", "rainbows", "1f308", One),
    thing("snowman", "snowmen", "26c4", One),
    thing("anchor", "anchors", "2693", One),
    thing("bomb", "bombs", "1f4a3", One),
    thing("trophy", "trophies", "1f3c6", One),
];
