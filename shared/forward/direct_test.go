package forward

import "time"

// usualLimits are the model's defaults.
var usualLimits = limits{connect: 300 * time.Millisecond, write: 5 * time.Second, read: 5 * time.Second}
